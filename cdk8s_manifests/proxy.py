"""HAProxy: the one queue in front of the pods."""

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests import pods
from cdk8s_manifests.haproxy_cfg import FOLDER, LUA, drain_seconds, haproxy_cfg
from cdk8s_manifests.names import PROXIES, PROXY, PROXY_PORT, QUEUE_PORT, STATUS_PORT
from config import EXIT_MARGIN, Stage

USER = 99  # haproxy, in the official image
CPUS, MIB = 0.1, 256


class Proxy(Construct):
    """The Deployment, its configuration, the headless Service that proxies find each other by, and its budget."""

    def __init__(self, scope: Construct, id_: str, *, stage: Stage) -> None:
        super().__init__(scope, id_)
        self._stage = stage
        text = haproxy_cfg(stage)
        named = k8s.ObjectMeta(name=PROXY)
        k8s.KubeServiceAccount(self, "account", metadata=named, automount_service_account_token=False)
        files = {"haproxy.cfg": text, LUA.name: LUA.read_text()}
        k8s.KubeConfigMap(self, "config", metadata=named, data=files)
        k8s.KubeDeployment(self, "deployment", metadata=named, spec=self._deployment("".join(files.values())))
        k8s.KubeService(self, "proxies", metadata=k8s.ObjectMeta(name=PROXIES), spec=self._addresses())
        k8s.KubePodDisruptionBudget(self, "budget", metadata=named, spec=pods.one_at_a_time(PROXY))

    def _deployment(self, config: str) -> k8s.DeploymentSpec:
        return k8s.DeploymentSpec(
            replicas=self._stage.proxy_replicas,
            selector=pods.selector(PROXY),
            strategy=pods.rolling(),
            min_ready_seconds=5,  # until every proxy has found the new one, for it may hold the queue
            revision_history_limit=3,
            template=k8s.PodTemplateSpec(metadata=pods.metadata(PROXY, rolled_by=config), spec=self._pod()),
        )

    def _addresses(self) -> k8s.ServiceSpec:
        ports = [k8s.ServicePort(name="queue", port=QUEUE_PORT), k8s.ServicePort(name="status", port=STATUS_PORT)]
        return k8s.ServiceSpec(cluster_ip="None", selector=pods.labels(PROXY), ports=ports)

    def _pod(self) -> k8s.PodSpec:
        return k8s.PodSpec(
            service_account_name=PROXY,
            automount_service_account_token=False,
            enable_service_links=False,
            security_context=pods.pod_security(USER),
            topology_spread_constraints=pods.spread(PROXY),
            termination_grace_period_seconds=drain_seconds(self._stage) + EXIT_MARGIN,
            containers=[self._haproxy()],
            volumes=[k8s.Volume(name="config", config_map=k8s.ConfigMapVolumeSource(name=PROXY))],
        )

    def _haproxy(self) -> k8s.Container:
        ports = {"http": PROXY_PORT, "queue": QUEUE_PORT, "status": STATUS_PORT}
        return k8s.Container(
            name="haproxy",
            image=self._stage.proxy_image,
            # Without a master process: Kubernetes starts it again, and sends it the image's stop signal, SIGUSR1.
            command=["haproxy", "-db", "-f", f"{FOLDER}/haproxy.cfg"],
            ports=[k8s.ContainerPort(name=name, container_port=port) for name, port in ports.items()],
            startup_probe=pods.probe("/healthz", STATUS_PORT, period=1, failures=30),
            readiness_probe=pods.probe("/readyz", STATUS_PORT, period=1, failures=2),
            liveness_probe=pods.probe("/healthz", STATUS_PORT, period=10, failures=3),
            resources=pods.resources(cpu_request=CPUS, cpu_limit=1, mib=MIB),
            security_context=pods.container_security(),
            volume_mounts=[k8s.VolumeMount(name="config", mount_path=FOLDER, read_only=True)],
        )
