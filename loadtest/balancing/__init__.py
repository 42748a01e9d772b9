"""Ways to choose a pod for a request, compared on the local cluster."""
