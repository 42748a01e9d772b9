"""Which settings of a pod serve a model best on this machine: `make tune`, docs/performance.md."""
