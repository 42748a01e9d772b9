"""From a stage's name to the stacks that `cdk` deploys: `cdk deploy --all -c stage=dev`."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from aws_cdk import Annotations, App, Environment, Stack, Validations
from cdk_nag import AwsSolutionsChecks

from config import PROJECT, STAGES, ConfigError, Stage, find_stage
from context import Context
from stacks.cluster import Cluster
from stacks.domain import Domain, Edge
from stacks.github_oidc import GitHubTrust
from stacks.gitops import GitOps
from stacks.monitoring import Monitoring
from stacks.network import Network
from stacks.registry import Registry
from stacks.secrets import Secrets


def build(app: App, *, stage: Stage, context: Context) -> None:
    """Put the stacks of a stage into `app`, with those that all stages share."""
    allowed = dict.fromkeys((*stage.api_allowed_cidrs, *context.api_allowed_cidrs))
    stage = replace(stage, api_allowed_cidrs=tuple(allowed))
    # What is shared is kept and protected as soon as one stage asks for it, whichever is being deployed.
    protect = any(each.deletion_protection for each in STAGES.values())
    keep_images = any(each.keep_data for each in STAGES.values())
    env = Environment(account=context.account, region=context.region)
    registry = Registry(app, "sluice-registry", env=env, keep_images=keep_images, protect=protect)
    github = GitHubTrust(app, "sluice-github", env=env, context=context, protect=protect)
    shared: list[Stack] = [registry, github]
    network = Network(app, f"{stage.cluster_name}-network", env=env, stage=stage)
    monitoring = Monitoring(app, f"{stage.cluster_name}-monitoring", env=env, stage=stage, context=context)
    cluster = Cluster(app, f"{stage.cluster_name}-cluster", env=env, stage=stage, context=context, vpc=network.vpc)
    cluster.add_stack_dependency(monitoring)  # the log group, before there are pods
    name = cluster.cluster.cluster_name
    secrets = Secrets(app, f"{stage.cluster_name}-secrets", env=env, stage=stage, cluster_name=name)
    edge = None
    if context.domain:
        zone = None
        if not context.hosted_zone_id:
            domain = Domain(app, "sluice-domain", env=env, context=context, protect=protect)
            zone = domain.zone
            shared.append(domain)
        edge = Edge(
            app,
            f"{stage.cluster_name}-edge",
            env=env,
            stage=stage,
            context=context,
            zone=zone,
            cluster_name=name,
        )
    gitops = GitOps(
        app,
        f"{stage.cluster_name}-gitops",
        env=env,
        stage=stage,
        context=context,
        cluster=cluster.cluster,
        certificate_arn=edge.certificate_arn if edge else "",
    )
    for before in (secrets, edge):  # only pods that start later get the roles that these give them
        if before:
            gitops.add_stack_dependency(before)
    if not context.domain and not stage.internal:
        warning = "domain is empty in cdk.json: keys and prompts cross the internet over plain HTTP"
        Annotations.of(gitops).add_warning_v2("sluice:plain-http", warning)
    for each in shared:
        each.add_stack_tag("project", PROJECT)
    own: list[Stack] = [network, monitoring, cluster, secrets, gitops, *([edge] if edge else [])]
    for each in own:
        for key, value in stage.tags.items():
            each.add_stack_tag(key, value)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def read_stage(app: App) -> Stage:
    """Return the stage that `cdk -c stage=…` names; raises ConfigError."""
    name = app.node.try_get_context("stage")
    if not name:
        raise ConfigError("stage is missing: name it with -c stage=dev or another that runs on AWS")
    return find_stage(name)


def check_credentials(context: Context, environ: Mapping[str, str]) -> None:
    """Raise ConfigError when the CDK's command line goes to another account or region than the context says."""
    if "CDK_DEFAULT_ACCOUNT" not in environ:
        return  # no credentials: the CDK makes a region up
    for name, wanted in {"account": context.account, "region": context.region}.items():
        given = environ.get(f"CDK_DEFAULT_{name.upper()}")
        if given != wanted:
            raise ConfigError(f"the AWS credentials are for {name} {given}, but {name}={wanted}: change one of them")


def main() -> None:
    """Synthesise what the CDK's command line asked for; bad input ends with one sentence."""
    # CloudFormation's own rules are cfn-lint's, which the tests run: built in, they take longer than all the rest.
    app = App(builtin_cloud_formation_validation=False)
    try:
        stage, context = read_stage(app), Context.read(app.node.try_get_context)
        check_credentials(context, os.environ)
        build(app, stage=stage, context=context)
    except ConfigError as error:
        sys.exit(f"sluice: {error}")
    app.synth()


if __name__ == "__main__":
    main()
