"""What tests, benchmarks and experiments run Sluice with: a stand-in for Ollama, the gateway, HAProxy, a real Ollama.

Nothing here is part of the product, which imports none of it.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
