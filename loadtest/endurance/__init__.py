"""Soak and stress against Sluice on the local cluster."""
