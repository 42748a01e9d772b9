from enum import StrEnum


class Autoscaling(StrEnum):
    """What the number of replicas follows: the work there is, or the CPU that is used."""

    REQUESTS = "requests"
    CPU = "cpu"


class LoadBalancer(StrEnum):
    """What stands before HAProxy: an Application Load Balancer, or nothing.

    A Network Load Balancer takes 3 to 5 minutes to register a pod and as long to forget it (AWS's support, in
    github.com/kubernetes-sigs/aws-load-balancer-controller/issues/1834): meanwhile old fronts would answer for a new
    release. It also neither redirects to HTTPS nor balances by request.
    """

    ALB = "alb"
    NONE = "none"
