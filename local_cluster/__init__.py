"""A Kubernetes cluster on this machine: commands on it, the images that it runs, releases, and `make demo`."""
