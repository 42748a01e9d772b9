"""The ramp against the naive system, ollama-helm and Sluice, on the local cluster."""
