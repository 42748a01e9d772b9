"""A Stage and two digests in, plain Kubernetes YAML out."""
