"""Times, in seconds, that AWS, Kubernetes and gunicorn decide: deadlines of a stage must respect them."""

# For the gateway to end once its last stream is out: see graceful_timeout in service/gunicorn.conf.py.
EXIT_MARGIN = 10
# For which a load balancer may still send new requests to a pod that ends, from SIGTERM on. AWS promises none once a
# target deregisters, but its users see them: from an ALB with 40 s, no longer with 70 s
# (github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2106), and at worst for 120 s (issue 2366 there).
BALANCER_DRAIN = 120
# Until a load balancer sends requests to a new pod, which isn't Ready before (argocd/namespace.yaml): at worst 180
# (issue 1834 there, by AWS's support), with an ALB two health checks.
BALANCER_REGISTER = 180
# After which a node that is drained ends its pods. `cdk destroy` gives up on a drain after 15 minutes.
NODE_DRAIN = 600
