"""A stage's log group, its alarms, who is told, and its budget.

It knows the cluster by its name only, so that it is there first: what a cluster's first pods write is kept.
"""

from dataclasses import dataclass

from aws_cdk import CfnOutput, Duration, Environment, Stack
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from config import LoadBalancer, Stage
from context import Context
from stacks.logs import log_group

# The fronts' line of a request (service/request_log.py); a pod that generates logs the same request as /engine/….
ANSWERED = '$.message = "request" && $.path != "/engine/*"'
# A burn rate of 14.4 spends 2 % of a month's error budget in an hour. The short window ends the alarm soon after the
# cause: sre.google/workbook/alerting-on-slos, "Multiwindow, Multi-Burn-Rate Alerts".
BURN_RATE = 14.4
WINDOWS = {"hour": Duration.hours(1), "minutes": Duration.minutes(5)}
FEWEST = 20  # requests in a window: of fewer, one failure says nothing


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A share of requests that may go wrong in a month. bad: the pattern of those that do."""

    name: str
    bad: str
    allowed: float
    meaning: str


OBJECTIVES = (
    Objective(
        name="Failed",
        bad="$.status >= 500 && $.status != 503",
        allowed=0.001,
        meaning="requests end with an error of ours",
    ),
    Objective(name="Refused", bad="$.status = 503", allowed=0.01, meaning="requests are refused: the queue is full"),
)


class Monitoring(Stack):
    """Logs that outlive their pods, alarms on what callers see and on pods that don't start, and a monthly budget."""

    def __init__(
        self, scope: Construct, id_: str, *, env: Environment | None = None, stage: Stage, context: Context
    ) -> None:
        super().__init__(
            scope,
            id_,
            env=env,
            termination_protection=stage.deletion_protection,
            description=f"Sluice: logs, alarms and budget of {stage.name}",
        )
        self._stage = stage
        self._namespace = f"Sluice/{stage.name}"
        self._topic = self._alerts(context)
        self._group = log_group(self, "Pods", stage=stage, name=stage.log_group)
        self._count("Requests", ANSWERED)
        for objective in OBJECTIVES:
            self._count(objective.name, f"{ANSWERED} && {objective.bad}")
            self._burn(objective)
        self._pending()
        if stage.load_balancer is not LoadBalancer.NONE:
            self._unhealthy()
        self._budget()

    def _alerts(self, context: Context) -> sns.Topic:
        """Return the topic that alarms and the budget are sent to, and to which people subscribe."""
        topic = sns.Topic(self, "Alerts", display_name=f"Sluice {self._stage.name}", enforce_ssl=True)
        for address in context.alert_emails:
            topic.add_subscription(subscriptions.EmailSubscription(address))
        for service in ("cloudwatch", "budgets"):
            topic.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                    actions=["sns:Publish"],
                    resources=[topic.topic_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": self.account}},
                )
            )
        CfnOutput(self, "AlertsTopic", value=topic.topic_arn)
        return topic

    def _count(self, name: str, pattern: str) -> None:
        """Count the log lines that match, a minute."""
        logs.MetricFilter(
            self,
            f"Count{name}",
            log_group=self._group,
            filter_pattern=logs.FilterPattern.literal(f"{{ {pattern} }}"),
            metric_namespace=self._namespace,
            metric_name=name,
            default_value=0,
        )

    def _burn(self, objective: Objective) -> None:
        """Alarm when the error budget burns too fast in both windows."""
        windows = [self._burn_in(objective, name, period) for name, period in WINDOWS.items()]
        both = cloudwatch.CompositeAlarm(
            self,
            objective.name,
            composite_alarm_name=f"{self._stage.cluster_name}-{objective.name.lower()}",
            alarm_description=f"Too many {objective.meaning}, over an hour and still in the last five minutes. See "
            "docs/operations.md, Logs and alarms.",
            alarm_rule=cloudwatch.AlarmRule.all_of(*windows),
        )
        self._tell(both)

    def _burn_in(self, objective: Objective, window: str, period: Duration) -> cloudwatch.Alarm:
        metrics = {"requests": self._metric("Requests", period), "bad": self._metric(objective.name, period)}
        share = cloudwatch.MathExpression(
            expression=f"IF(requests >= {FEWEST}, bad / requests, 0)", using_metrics=metrics, period=period
        )
        return cloudwatch.Alarm(
            self,
            f"{objective.name}In{window.capitalize()}",
            metric=share,
            threshold=round(BURN_RATE * objective.allowed, 4),
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _metric(self, name: str, period: Duration) -> cloudwatch.Metric:
        return cloudwatch.Metric(namespace=self._namespace, metric_name=name, statistic="Sum", period=period)

    def _pending(self) -> None:
        """Alarm on pods that find no node: a quota that is reached, or numbers that no node fits.

        EKS counts them for nothing: docs.aws.amazon.com/eks/latest/userguide/cloudwatch.html
        """
        pods = cloudwatch.Metric(
            namespace="AWS/EKS",
            metric_name="scheduler_pending_pods_UNSCHEDULABLE",
            dimensions_map={"ClusterName": self._stage.cluster_name},
            statistic="Sum",
            period=Duration.minutes(1),
        )
        minutes = self._stage.start_timeout // 60  # in which a node has long been there
        self._alarm("Pending", pods, minutes, "Pods find no node: look at their events, and at the vCPU quota.")

    def _unhealthy(self) -> None:
        """Alarm on targets that the load balancer doesn't reach.

        Auto Mode names the balancer, so the query is about every one of its kind in the account, which has no other.
        """
        query = cloudwatch.MathExpression(
            expression='SELECT MAX(UnHealthyHostCount) FROM SCHEMA("AWS/ApplicationELB", LoadBalancer, TargetGroup)',
            using_metrics={},
            period=Duration.minutes(1),
        )
        self._alarm("Unhealthy", query, 10, "A proxy has been out of the load balancer for ten minutes.")

    def _alarm(self, name: str, metric: cloudwatch.IMetric, minutes: int, meaning: str) -> None:
        """Alarm when the metric has been above 0 for so many minutes."""
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._stage.cluster_name}-{name.lower()}",
            alarm_description=meaning,
            metric=metric,
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=minutes,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        self._tell(alarm)

    def _tell(self, alarm: cloudwatch.AlarmBase) -> None:
        action = actions.SnsAction(self._topic)
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)

    def _budget(self) -> None:
        """Tell when the stage's bill passes four fifths of its budget, or is going to pass it."""
        subscriber = budgets.CfnBudget.SubscriberProperty(address=self._topic.topic_arn, subscription_type="SNS")
        notices = [
            budgets.CfnBudget.NotificationWithSubscribersProperty(
                notification=budgets.CfnBudget.NotificationProperty(
                    comparison_operator="GREATER_THAN",
                    notification_type=kind,
                    threshold=threshold,
                    threshold_type="PERCENTAGE",
                ),
                subscribers=[subscriber],
            )
            for kind, threshold in {"ACTUAL": 80, "FORECASTED": 100}.items()
        ]
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=self._stage.cluster_name,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=self._stage.budget_usd, unit="USD"),
                # The stage's own resources, by their tag, once that is active as a cost allocation tag.
                cost_filters={"TagKeyValue": [f"user:stage${self._stage.name}"]},
            ),
            notifications_with_subscribers=notices,
        )
