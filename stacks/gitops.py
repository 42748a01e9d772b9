from itertools import pairwise
from typing import cast

from aws_cdk import Duration, Stack
from aws_cdk import aws_eks_v2 as eks
from constructs import Construct

from argocd.objects import GitRemote, Object, platform, sluice
from config import Stage
from context import Context

# Helm installs Argo CD once; from then on Argo CD owns its chart, at the version and with the values of argocd/. A
# change here would make Helm upgrade what Argo CD owns, and Helm 4 refuses to take over the fields of another owner. So
# these are only the values that decide which objects exist.
FIRST_CHART = "10.9.2"
FIRST_VALUES = {"dex": {"enabled": False}, "notifications": {"secret": {"create": False}}}


class GitOps(Stack):
    """Argo CD in a stage's cluster, and what it runs there: itself, KEDA, and Sluice from its stage's branch.

    Each object depends on the previous one, and `cdk destroy` deletes them in reverse order: Sluice with its load
    balancer, then KEDA, which removes the finalizers of its objects, then Argo CD, which deletes all of these.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage, context: Context, cluster: eks.Cluster) -> None:
        super().__init__(
            scope, id_, termination_protection=stage.deletion_protection, description=f"Sluice: Argo CD of {stage.name}"
        )
        target = cast(eks.ICluster, cluster)  # jsii's Cluster lacks a member of that protocol
        remote = GitRemote.of(context)
        steps = [
            self._argo_cd(target),
            *(self._object(target, each) for each in platform(stage, remote)),
            self._keda_kinds(target),
            *(self._object(target, each) for each in sluice(stage, remote)),
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
        id_ = f"{manifest['kind']}-{manifest['metadata']['name']}"
        # overwrite: Argo CD has created the project `default`, and a deployment that failed may have left objects.
        return eks.KubernetesManifest(self, id_, cluster=cluster, manifest=[manifest], overwrite=True, prune=False)

    def _keda_kinds(self, cluster: eks.ICluster) -> Construct:
        """Wait until Argo CD has installed KEDA: without its CRDs, the first sync of Sluice would fail."""
        return eks.KubernetesObjectValue(
            self,
            "KedaKinds",
            cluster=cluster,
            object_type="customresourcedefinition",
            object_name="scaledobjects.keda.sh",
            json_path='.status.conditions[?(@.type=="Established")].status',
            timeout=Duration.minutes(10),
        )
