"""Names and ports that several objects agree on."""

NAME = "sluice"  # the gateway's Deployment, and the Service that clients use
PROXY = "proxy"
PODS, PROXIES = "pods", "proxies"  # headless Services: the addresses of the gateway's pods, and of HAProxy's

GATEWAY_PORT, GATEWAY_PRIVATE_PORT = 5000, 9090  # service/settings.py
OLLAMA_PORT = 11434
PROXY_PORT, QUEUE_PORT, STATUS_PORT = 8080, 8081, 8404  # clients; proxies among themselves; probes and metrics


def host(service: str, namespace: str) -> str:
    """Return a Service's name in the cluster's DNS."""
    return f"{service}.{namespace}.svc.cluster.local"
