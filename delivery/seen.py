"""What the smoke test saw of a release: the message of the tag with which CI signs that it has passed."""

import argparse
import json
from dataclasses import dataclass
from typing import Self

from command_line import form

MOST_CHARACTERS = 60_000  # of a record: GitHub passes no more than 65,535 from one workflow to another
read_judgement = form(r"[^\x00-\x1f\x7f]{0,20000}", "one line of at most 20,000 characters")  # of thirty models


@dataclass(frozen=True)
class Seen:
    """judgement: what was seen and how sure that is, in a line. record: what the next release is compared with: JSON.

    Both are what `python -m loadtest.judging` has written, of which nothing here needs to know more.
    """

    judgement: str = ""
    record: str = ""

    def message(self, stage: str) -> str:
        """Return the message of a tag."""
        return "\n\n".join(filter(None, [f"{stage} passed its smoke test", self.judgement, self.record])) + "\n"

    @classmethod
    def of(cls, message: str) -> Self:
        """Return what a tag's message says, nothing where it says nothing more than that the release has passed."""
        lines = [line for line in message.splitlines()[1:] if line]
        records = [line for line in lines if line.startswith("{")]
        return cls(" ".join(line for line in lines if line not in records), "".join(records))


def read_record(text: str) -> str:
    """Read a record; an empty text is none."""
    try:
        right = not text or (len(text.splitlines()) == 1 and isinstance(json.loads(text), dict))
    except ValueError:
        right = False
    if not right or len(text) > MOST_CHARACTERS:
        allowed = f"a JSON object in one line of at most {MOST_CHARACTERS:,} characters"
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not {allowed}")
    return text
