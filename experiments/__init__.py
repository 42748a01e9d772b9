"""Experiments on a cluster, with an engine whose service time is set: see docs/experiments.md."""
