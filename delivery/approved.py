"""What main says that prod runs: `delivery/prod.json`, which changes by a reviewed pull request as all of main does."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from delivery.branch import Refused

PATH = Path(__file__).with_name("prod.json")
COMMIT, DIGEST = r"[0-9a-f]{40}", r"sha256:[0-9a-f]{64}"
FORMS = {"source": COMMIT, "image": DIGEST, "weights": DIGEST, "reverts": rf"({COMMIT})?"}


@dataclass(frozen=True, kw_only=True)
class Approved:
    """A release: the commit of main that renders it, its digests, and the commit on prod's branch that it reverts."""

    source: str
    image: str
    weights: str
    reverts: str = ""

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read(path: Path) -> Approved | None:
    """Return what the file says; None if nothing was approved yet. Refuses what isn't of the form."""
    try:
        values = json.loads(path.read_text())
    except ValueError as problem:
        raise Refused(f"{path.name} is no JSON: {problem}") from None
    if values == {}:
        return None
    if not isinstance(values, dict) or set(values) != set(FORMS):
        raise Refused(f"{path.name} must have {', '.join(FORMS)} and nothing else, or be empty: {{}}")
    for name, pattern in FORMS.items():
        if not re.fullmatch(pattern, str(values[name])):
            raise Refused(f"{path.name} has {name}={values[name]!r}, which doesn't match {pattern}")
    return Approved(**values)
