"""The images that ours start from, by tag: a machine that reaches no registry has its own under these names."""

from service.ollama_version import VERSION

BASE, OLLAMA = "debian:trixie-slim", f"ollama/ollama:{VERSION}"
