"""Where a stage answers."""

import re
from collections.abc import Sequence

from config import Stage
from context import Context
from delivery.branch import Refused


def address(stage: Stage, context: Context, urls: Sequence[str]) -> str:
    """Return the address that cdk.json has for the stage, its name in the owner's domain, or its load balancer's.

    Whoever may write to the repository can set its variables, so no address is taken from there. urls: what Argo CD
    says that the stage's Ingress is reached by. Anyone who may notify GitHub can send others, so only those of load
    balancers count. Refuses without any.
    """
    if given := context.address(stage):
        return given
    if host := context.host(stage):
        return f"https://{host}"
    balancer = re.compile(rf"http://[a-z0-9-]+\.{context.region}\.elb\.amazonaws\.com/?")
    found = [url for url in urls if balancer.fullmatch(url)]
    if not found:
        raise Refused(
            f"{stage.name} has no domain in cdk.json, and Argo CD names no load balancer of it: "
            f"set addresses={stage.name}=https://… there to where {stage.name} is reached"
        )
    return found[0].rstrip("/")
