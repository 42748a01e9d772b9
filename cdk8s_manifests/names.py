"""Names and ports that several objects share."""

NAME = "sluice"  # of the Service that clients use, and the label of all objects
GATEWAY = "sluice"  # the component of the pods that generate: their Deployment, and what belongs to it
PROXY = "proxy"
FRONT = "front"  # the container that clients reach, next to HAProxy in a proxy's pod
PODS, PROXIES = "pods", "proxies"  # headless Services: the addresses of the pods that generate, and of HAProxy's

GATEWAY_PORT, GATEWAY_PRIVATE_PORT = 5000, 9090  # service/settings.py; of fronts and of pods that generate
OLLAMA_PORT = 11434
PROXY_PORT, QUEUE_PORT, STATUS_PORT = 8080, 8081, 8404  # for the front in its pod; other proxies; probes and metrics


def host(service: str, namespace: str) -> str:
    """Return a Service's name in the cluster's DNS."""
    return f"{service}.{namespace}.svc.cluster.local"
