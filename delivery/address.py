"""Where a stage answers."""

import re
from collections.abc import Sequence

from config import Stage
from context import Context
from delivery.branch import Refused


def address(stage: Stage, context: Context, urls: Sequence[str]) -> str:
    """Return the stage's name in the owner's domain, or without one the address of its load balancer.

    urls: what Argo CD says that the stage's Ingress is reached by. Anyone who may notify GitHub can send others, so
    only those of load balancers count. Refuses without any.
    """
    if host := context.host(stage):
        return f"https://{host}"
    balancer = re.compile(rf"http://[a-z0-9-]+\.{context.region}\.elb\.amazonaws\.com/?")
    found = [url for url in urls if balancer.fullmatch(url)]
    if not found:
        variable = f"{stage.name.upper()}_URL"
        raise Refused(
            f"{stage.name} has no domain in cdk.json, and Argo CD names no load balancer of it: "
            f"set the repository variable {variable} to the address of {stage.name}"
        )
    return found[0].rstrip("/")
