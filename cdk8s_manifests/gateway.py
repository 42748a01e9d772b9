"""A model's pods: Ollama with the model as a sidecar, and the gateway in its role `back` in front of it."""

from cdk8s_plus_36 import k8s
from constructs import Construct

from cdk8s_manifests import pods
from cdk8s_manifests.gateway_settings import FIRST_TOKEN, back_settings, ollama_variables
from cdk8s_manifests.names import GATEWAY_PORT, GATEWAY_PRIVATE_PORT, ObjectNames
from config import GATEWAY_CPUS, MODEL_TAINT, Stage

USER = 10001  # service/Dockerfile
COMMAND = ["gunicorn", "-c", "service/gunicorn.conf.py", "service.wsgi:app"]
MODELS = "/models"
# Seconds for which a new pod must be ready before an old one may be removed, also when a node is drained, which ignores
# minReadySeconds: CoreDNS may be 5 s late, HAProxy resolves once a second, and checks a new pod twice a second.
SEEN_SECONDS = 8


class Gateway(Construct):
    """The Deployment, its settings, the headless Service by which HAProxy finds its pods, and its disruption budget.

    view: the stage as the model sees it. names: of the model's objects. pool: of its nodes, None where they have none.
    image, weights: full references of the images. The autoscaler owns the number of replicas.
    """

    def __init__(
        self, scope: Construct, id_: str, *, view: Stage, names: ObjectNames, pool: str | None, image: str, weights: str
    ) -> None:
        super().__init__(scope, id_)
        self._stage, self._component, self._pool = view, names.component, pool
        self._image, self._weights = image, weights
        settings = back_settings(view)
        named = k8s.ObjectMeta(name=self._component)
        k8s.KubeServiceAccount(self, "account", metadata=named, automount_service_account_token=False)
        k8s.KubeConfigMap(self, "settings", metadata=named, data=settings)
        deployment = k8s.KubeDeployment(self, "deployment", metadata=named, spec=self._deployment())
        pods.name_release(deployment, settings)
        k8s.KubeService(self, "pods", metadata=k8s.ObjectMeta(name=names.pods), spec=self._addresses())
        k8s.KubePodDisruptionBudget(self, "budget", metadata=named, spec=pods.one_at_a_time(self._component))

    def _deployment(self) -> k8s.DeploymentSpec:
        return k8s.DeploymentSpec(
            selector=pods.selector(self._component),
            strategy=pods.rolling(),
            progress_deadline_seconds=self._stage.start_timeout,
            revision_history_limit=3,
            template=k8s.PodTemplateSpec(metadata=pods.metadata(self._component), spec=self._pod()),
        )

    def _addresses(self) -> k8s.ServiceSpec:
        """Return a headless Service.

        It lists pods whether they are ready or not: HAProxy's health checks notice sooner than DNS which of them are.
        """
        ports = {"http": GATEWAY_PORT, "private": GATEWAY_PRIVATE_PORT}
        return k8s.ServiceSpec(
            cluster_ip="None",
            selector=pods.labels(self._component),
            publish_not_ready_addresses=True,
            ports=[k8s.ServicePort(name=name, port=port) for name, port in ports.items()],
        )

    def _pod(self) -> k8s.PodSpec:
        tolerates = k8s.Toleration(key=MODEL_TAINT, operator="Exists", effect="NoSchedule")
        return k8s.PodSpec(
            service_account_name=self._component,
            automount_service_account_token=False,
            enable_service_links=False,
            security_context=pods.pod_security(USER),
            # The nodes that the Stage's numbers are made for, which nothing else may use: stacks/node_pools.py.
            node_selector={"karpenter.sh/nodepool": self._pool} if self._pool else None,
            tolerations=[tolerates] if self._pool else None,
            topology_spread_constraints=pods.spread(self._component),
            termination_grace_period_seconds=self._stage.grace_period,
            init_containers=[self._ollama()],
            containers=[self._gateway()],
            volumes=self._volumes(),
        )

    def _ollama(self) -> k8s.Container:
        """Return the sidecar, which starts before the gateway and stops after it, so that its streams aren't cut off.

        It has no liveness probe: one that runs in a container whose CPUs are all busy would fail for that alone.
        """
        stage = self._stage
        variables = ollama_variables(stage) | {"HOME": "/tmp", "OLLAMA_MODELS": MODELS}  # noqa: S108
        first_token = k8s.Probe(
            exec=k8s.ExecAction(command=["python", "-c", FIRST_TOKEN.read_text()]),
            period_seconds=1,
            timeout_seconds=stage.start_timeout,
            failure_threshold=stage.start_timeout,
        )
        return k8s.Container(
            name="ollama",
            image=self._image,
            command=["ollama", "serve"],
            restart_policy="Always",
            env=[k8s.EnvVar(name=name, value=value) for name, value in variables.items()],
            env_from=[self._settings()],
            startup_probe=first_token,
            resources=pods.resources(
                cpu_request=stage.requested_cpus or stage.cpus, cpu_limit=stage.cpus, mib=stage.ollama_mib
            ),
            security_context=pods.container_security(),
            volume_mounts=[
                k8s.VolumeMount(name="weights", mount_path=MODELS, read_only=True),
                k8s.VolumeMount(name="tmp", mount_path="/tmp"),  # noqa: S108
            ],
        )

    def _gateway(self) -> k8s.Container:
        requested = self._stage.requested_cpus or GATEWAY_CPUS
        return k8s.Container(
            name="gateway",
            image=self._image,
            command=COMMAND,
            env=[pods.release_variable()],
            env_from=[self._settings()],
            ports=[
                k8s.ContainerPort(name="http", container_port=GATEWAY_PORT),
                k8s.ContainerPort(name="private", container_port=GATEWAY_PRIVATE_PORT),
            ],
            startup_probe=pods.probe("/healthz", GATEWAY_PRIVATE_PORT, period=1, failures=60),
            readiness_probe=pods.probe("/readyz", GATEWAY_PRIVATE_PORT, period=1, failures=3, successes=SEEN_SECONDS),
            liveness_probe=pods.probe("/healthz", GATEWAY_PRIVATE_PORT, period=10, failures=3),
            resources=pods.resources(cpu_request=min(requested, GATEWAY_CPUS), cpu_limit=1, mib=self._stage.back_mib),
            security_context=pods.container_security(),
        )

    def _volumes(self) -> list[k8s.Volume]:
        weights = k8s.ImageVolumeSource(reference=self._weights, pull_policy="IfNotPresent")
        return [
            k8s.Volume(name="weights", image=weights),
            k8s.Volume(name="tmp", empty_dir=k8s.EmptyDirVolumeSource(size_limit=k8s.Quantity.from_string("64Mi"))),
        ]

    def _settings(self) -> k8s.EnvFromSource:
        return k8s.EnvFromSource(config_map_ref=k8s.ConfigMapEnvSource(name=self._component))
