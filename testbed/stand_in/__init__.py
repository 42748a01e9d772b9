"""A stand-in for Ollama that speaks its HTTP API: scripted for tests, timed for load, stepped for planning.

It needs nothing but Python. `python -m testbed.stand_in serve` runs it as the program `ollama`.
"""

from testbed.stand_in.ollama import MODEL
from testbed.stand_in.scripted import DURATIONS, NAME, StandIn

__all__ = ["DURATIONS", "MODEL", "NAME", "StandIn"]
