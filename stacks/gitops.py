from itertools import pairwise
from typing import cast

from aws_cdk import Duration, Environment, Stack
from aws_cdk import aws_eks_v2 as eks
from constructs import Construct

from argocd.objects import GitRemote, Object, egress, platform, secrets, sluice
from config import Stage
from context import Context
from stacks.ingress_class import ingress_class

# Helm installs Argo CD once; from then on Argo CD owns its chart, at the version and with the values of argocd/. A
# change here would make Helm upgrade what Argo CD owns, and Helm 4 refuses to take over the fields of another owner. So
# these are only the values that decide which objects exist.
FIRST_CHART = "10.9.2"
FIRST_VALUES = {"dex": {"enabled": False}, "notifications": {"secret": {"create": False}}}


class GitOps(Stack):
    """Argo CD in a stage's cluster, and what it runs there: itself, KEDA, and Sluice from its stage's branch.

    Each object depends on the previous one, and `cdk destroy` deletes them in reverse order: Sluice with its load
    balancer, then KEDA, which removes the finalizers of its objects, then Argo CD, which deletes all of these.
    certificate_arn: of the load balancer, "" for plain HTTP.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        env: Environment | None = None,
        stage: Stage,
        context: Context,
        cluster: eks.Cluster,
        certificate_arn: str,
    ) -> None:
        super().__init__(
            scope,
            id_,
            env=env,
            termination_protection=stage.deletion_protection,
            description=f"Sluice: Argo CD of {stage.name}",
        )
        target = cast(eks.ICluster, cluster)  # jsii's Cluster lacks a member of that protocol
        remote = GitRemote.of(context)
        namespace, *rest = sluice(stage, remote, context.registry)
        steps = [
            self._argo_cd(target),
            self._object(target, namespace),
            *(self._object(target, each) for each in platform(stage, remote, domain=context.domain)),
            self._kind(target, "KedaKinds", "scaledobjects.keda.sh"),
            self._kind(target, "SecretKinds", "externalsecrets.external-secrets.io"),
            *(self._object(target, each) for each in egress(stage)),
            *(self._object(target, each) for each in secrets(stage, context.region)),
            *(self._object(target, each) for each in ingress_class(stage, certificate_arn=certificate_arn)),
            *(self._object(target, each) for each in rest),
        ]
        for earlier, later in pairwise(steps):
            later.node.add_dependency(earlier)

    def _argo_cd(self, cluster: eks.ICluster) -> Construct:
        return eks.HelmChart(
            self,
            "ArgoCd",
            cluster=cluster,
            repository="https://argoproj.github.io/argo-helm",
            chart="argo-cd",
            version=FIRST_CHART,
            release="argocd",
            namespace="argocd",
            values=FIRST_VALUES,
            wait=True,
            timeout=Duration.minutes(10),  # the first node has to start; the provider's own limit is 15
        )

    def _object(self, cluster: eks.ICluster, manifest: Object) -> Construct:
        name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace", "argocd")
        id_ = f"{manifest['kind']}-{name}" + (f"-{namespace}" if namespace != "argocd" else "")
        # overwrite: Argo CD has created the project `default`, and a deployment that failed may have left objects.
        return eks.KubernetesManifest(self, id_, cluster=cluster, manifest=[manifest], overwrite=True, prune=False)

    def _kind(self, cluster: eks.ICluster, id_: str, name: str) -> Construct:
        """Wait until Argo CD has installed a CRD, without which objects of its kind can't be applied."""
        return eks.KubernetesObjectValue(
            self,
            id_,
            cluster=cluster,
            object_type="customresourcedefinition",
            object_name=name,
            json_path='.status.conditions[?(@.type=="Established")].status',
            timeout=Duration.minutes(10),
        )
