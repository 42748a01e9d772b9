"""A proxy's pod: the front, which callers reach, and HAProxy, which holds the one queue in front of the gateways."""

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests import pods
from cdk8s_manifests.gateway import COMMAND, USER
from cdk8s_manifests.gateway_settings import KEYS_FOLDER, front_settings
from cdk8s_manifests.haproxy_cfg import FOLDER, LUA, haproxy_cfg
from cdk8s_manifests.names import (
    FRONT,
    GATEWAY_PORT,
    GATEWAY_PRIVATE_PORT,
    PROXIES,
    PROXY,
    QUEUE_PORT,
    STATUS_PORT,
)
from config import BALANCER_REGISTER, GATEWAY_CPUS, PROXY_MIB, LoadBalancer, Stage

CPUS = 0.1
START_SECONDS = 60  # for a proxy to start once there is a pod of its release: see service/front.py


class Proxy(Construct):
    """The Deployment, its configurations, the headless Service by which proxies find each other, and its budget.

    image, haproxy: full references of the gateway's image, for the front, and of HAProxy's.
    tls: the load balancer ends it.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage, image: str, haproxy: str, tls: bool) -> None:
        super().__init__(scope, id_)
        self._stage, self._image, self._haproxy_image = stage, image, haproxy
        settings = front_settings(stage, tls=tls)
        files = {"haproxy.cfg": haproxy_cfg(stage), LUA.name: LUA.read_text()}
        named = k8s.ObjectMeta(name=PROXY)
        k8s.KubeServiceAccount(self, "account", metadata=named, automount_service_account_token=False)
        k8s.KubeConfigMap(self, "config", metadata=named, data=files)
        k8s.KubeConfigMap(self, "settings", metadata=k8s.ObjectMeta(name=FRONT), data=settings)
        deployment = k8s.KubeDeployment(self, "deployment", metadata=named, spec=self._deployment())
        pods.name_release(deployment, files, settings)
        k8s.KubeService(self, "proxies", metadata=k8s.ObjectMeta(name=PROXIES), spec=self._addresses())
        k8s.KubePodDisruptionBudget(self, "budget", metadata=named, spec=pods.one_at_a_time(PROXY))

    def _deployment(self) -> k8s.DeploymentSpec:
        register = 0 if self._stage.load_balancer is LoadBalancer.NONE else BALANCER_REGISTER
        return k8s.DeploymentSpec(
            replicas=self._stage.proxy_replicas,
            selector=pods.selector(PROXY),
            strategy=pods.rolling(),
            min_ready_seconds=5,  # until every proxy has found the new one, which may become the queue's holder
            progress_deadline_seconds=self._stage.start_timeout + START_SECONDS + register,
            revision_history_limit=3,
            template=k8s.PodTemplateSpec(metadata=pods.metadata(PROXY), spec=self._pod()),
        )

    def _addresses(self) -> k8s.ServiceSpec:
        ports = {"queue": QUEUE_PORT, "status": STATUS_PORT, "private": GATEWAY_PRIVATE_PORT}
        return k8s.ServiceSpec(
            cluster_ip="None",
            selector=pods.labels(PROXY),
            ports=[k8s.ServicePort(name=name, port=port) for name, port in ports.items()],
        )

    def _pod(self) -> k8s.PodSpec:
        """Return the pod. HAProxy is its sidecar: it starts before the front, and stops after the front's last answer.

        It then stays open for as long as another front may use it: see haproxy.cfg.
        """
        volumes = [k8s.Volume(name="config", config_map=k8s.ConfigMapVolumeSource(name=PROXY))]
        if self._stage.api_keys:
            secret = k8s.SecretVolumeSource(secret_name=self._stage.api_keys)
            volumes.append(k8s.Volume(name="keys", secret=secret))
        return k8s.PodSpec(
            service_account_name=PROXY,
            automount_service_account_token=False,
            enable_service_links=False,
            security_context=pods.pod_security(USER),
            topology_spread_constraints=pods.spread(PROXY),
            termination_grace_period_seconds=self._stage.proxy_grace_period,
            init_containers=[self._haproxy()],
            containers=[self._front()],
            volumes=volumes,
        )

    def _front(self) -> k8s.Container:
        requested = self._stage.requested_cpus or GATEWAY_CPUS
        keys = k8s.VolumeMount(name="keys", mount_path=KEYS_FOLDER, read_only=True)
        ports = {"http": GATEWAY_PORT, "private": GATEWAY_PRIVATE_PORT}
        return k8s.Container(
            name=FRONT,
            image=self._image,
            command=COMMAND,
            env=[pods.release_variable()],
            env_from=[k8s.EnvFromSource(config_map_ref=k8s.ConfigMapEnvSource(name=FRONT))],
            ports=[k8s.ContainerPort(name=name, container_port=port) for name, port in ports.items()],
            startup_probe=pods.probe("/healthz", GATEWAY_PRIVATE_PORT, period=1, failures=60),
            readiness_probe=pods.probe("/readyz", GATEWAY_PRIVATE_PORT, period=1, failures=2),
            liveness_probe=pods.probe("/healthz", GATEWAY_PRIVATE_PORT, period=10, failures=3),
            resources=pods.resources(cpu_request=min(requested, GATEWAY_CPUS), cpu_limit=1, mib=self._stage.front_mib),
            security_context=pods.container_security(),
            volume_mounts=[keys] if self._stage.api_keys else None,
        )

    def _haproxy(self) -> k8s.Container:
        ports = {"queue": QUEUE_PORT, "status": STATUS_PORT}
        return k8s.Container(
            name="haproxy",
            image=self._haproxy_image,
            # Without a master process: Kubernetes restarts it, and sends it the image's stop signal, SIGUSR1.
            command=["haproxy", "-db", "-f", f"{FOLDER}/haproxy.cfg"],
            restart_policy="Always",
            ports=[k8s.ContainerPort(name=name, container_port=port) for name, port in ports.items()],
            startup_probe=pods.probe("/healthz", STATUS_PORT, period=1, failures=30),
            readiness_probe=pods.probe("/readyz", STATUS_PORT, period=1, failures=2),
            liveness_probe=pods.probe("/healthz", STATUS_PORT, period=10, failures=3),
            resources=pods.resources(cpu_request=CPUS, cpu_limit=1, mib=PROXY_MIB),
            security_context=pods.container_security(),
            volume_mounts=[k8s.VolumeMount(name="config", mount_path=FOLDER, read_only=True)],
        )
