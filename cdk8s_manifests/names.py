"""Names and ports that several objects share."""

from dataclasses import dataclass
from urllib.parse import quote

from config import Stage

NAME = "sluice"  # of the Service that clients use, and the label of all objects
# Of the default model; another's have its name at their ends, see ObjectNames.
GATEWAY = "sluice"  # the component of the pods that generate: their Deployment, and what belongs to it
PROXY = "proxy"
FRONT = "front"  # the container that clients reach, next to HAProxy in a proxy's pod
PODS, PROXIES = "pods", "proxies"  # headless Services: the addresses of the pods that generate, and of HAProxy's
QUEUE = "generate"  # HAProxy's backend of those pods

GATEWAY_PORT, GATEWAY_PRIVATE_PORT = 5000, 9090  # service/settings.py; of fronts and of pods that generate
OLLAMA_PORT = 11434
PROXY_PORT, QUEUE_PORT, STATUS_PORT = 8080, 8081, 8404  # for the front in its pod; other proxies; probes and metrics


@dataclass(frozen=True)
class ObjectNames:
    """What a model's objects and its sections of haproxy.cfg are called.

    suffix: of all its names; "" for the default model. header: how fronts name it to HAProxy (service/front.py).
    """

    suffix: str
    header: str

    @property
    def component(self) -> str:
        """Return the component of its pods: their Deployment, and what belongs to it."""
        return GATEWAY + self.suffix

    @property
    def pods(self) -> str:
        """Return the headless Service with the addresses of its pods."""
        return PODS + self.suffix

    @property
    def queue(self) -> str:
        """Return HAProxy's backend with the queue in front of its pods."""
        return QUEUE + self.suffix


def object_names(stage: Stage, view: Stage) -> ObjectNames:
    """Return the names of a stage's model. view: the stage as that model sees it."""
    name = view.model.name
    suffix = "" if name == stage.model.name else f"-{view.model.slug}"
    return ObjectNames(suffix, quote(name, safe=""))


def host(service: str, namespace: str) -> str:
    """Return a Service's name in the cluster's DNS."""
    return f"{service}.{namespace}.svc.cluster.local"
