"""How fast a pod reads prompts and writes answers, with as many slots busy as there are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from config import ConfigError
from planning.workload import Numbers


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """A pod's measured speeds.

    prefill: tokens/s of prompts, all that are read at a time together. decode: tokens/s of each answer, by how many
    are written at a time. overhead: seconds that a request holds its slot in addition to both. given: tokens that
    reading the prompt yields. joining: for how many tokens' time a request isn't at work yet where others are being
    answered: half a step until the next begins, and the token of each other answer in the step that reads its prompt.
    """

    prefill: float
    decode: Mapping[int, float]
    overhead: float = 0.0
    given: float = 1.0
    joining: float = 1.5

    def decode_with(self, slots: int) -> list[float]:
        """Return tokens/s of each of n answers at index n, from 0 to `slots`.

        Between two measured counts the time of a token grows evenly, as it does when each answer more adds its own
        reads of the cache to the one read of the weights. Raises ConfigError beyond what was measured.
        """
        counts = sorted(self.decode)
        if counts[0] != 1 or counts[-1] < slots:
            raise ConfigError(f"decode has tokens/s at {counts} busy slots: it needs them at 1 and at {slots}")
        seconds = np.interp(range(1, slots + 1), counts, [1 / self.decode[count] for count in counts])
        return [math.inf, *(1 / seconds)]

    def alone(self, prompts: Numbers, answers: Numbers) -> Numbers:
        """Return the seconds of requests that have a pod to themselves; lengths in tokens."""
        return self.overhead + prompts / self.prefill + (answers - self.given) / self.decode[1]

    def requests_per_second(self, slots: int, prompt: float, answer: float) -> float:
        """Return what a pod serves with every slot busy, for the mean lengths."""
        tokens = answer - self.given + (self.joining if slots > 1 else 0)
        return 1 / (prompt / self.prefill + (tokens / self.decode_with(slots)[slots] + self.overhead) / slots)
