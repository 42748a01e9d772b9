"""Autoscalers under one load, compared on the local cluster with KEDA."""
