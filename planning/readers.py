"""How the options of a plan are read."""

import argparse
from typing import TypeVar

from command_line import Reader, number, whole
from planning.workload import Length

RATE = number(0.0001, 1_000_000, of="requests a second")
TOKENS, SPREAD = number(1, 1_000_000, of="tokens"), number(0, 1_000_000, of="tokens")
SPEED = number(0.01, 1_000_000, of="tokens/s")
SECONDS = number(0, 86_400, of="seconds")
DECODE_EXAMPLE = "1:17,8:10.5"
T = TypeVar("T")


def length(text: str) -> Length:
    """Read MEAN[:SPREAD], in tokens."""
    mean, _, spread = text.partition(":")
    return Length(TOKENS(mean), SPREAD(spread or "0"))


def decode(text: str) -> dict[int, float]:
    """Read the speed of each of so many answers at once, by their count."""
    pairs = [part.partition(":") for part in text.split(",")]
    if not all(colon for _, colon, _ in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of COUNT:SPEED such as {DECODE_EXAMPLE}")
    speeds = {whole(1)(count): SPEED(speed) for count, _, speed in pairs}
    if 1 not in speeds:
        raise argparse.ArgumentTypeError(
            f"{text!r} doesn't say how fast one answer alone is: give it as {DECODE_EXAMPLE}"
        )
    ordered = [speed for _, speed in sorted(speeds.items())]
    if ordered != sorted(ordered, reverse=True):
        raise argparse.ArgumentTypeError(f"{text!r} has answers get faster with more at once: they share a pod's CPUs")
    return speeds


def by_instance(read: Reader[T]) -> Reader[tuple[str, T]]:
    """Return the reader of a value with the instance type that it is of before it, as in c7i.xlarge=4, or without."""

    def read_both(text: str) -> tuple[str, T]:
        kind, _, value = text.rpartition("=")
        return kind, read(value)

    return read_both
