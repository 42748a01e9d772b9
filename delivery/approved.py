"""What main says that prod runs: `delivery/prod.json`, which changes by a reviewed pull request as all of main does."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from delivery.branch import Refused
from delivery.digests import Digests

PATH = Path(__file__).with_name("prod.json")
COMMIT, DIGEST = r"[0-9a-f]{40}", r"sha256:[0-9a-f]{64}"
FORMS = {"source": COMMIT, "image": DIGEST, "reverts": rf"({COMMIT})?"}
FIELDS = ("source", "image", "weights", "reverts")


@dataclass(frozen=True, kw_only=True)
class Approved:
    """A release: the commit of main that renders it, its digests, and the commit on prod's branch that it reverts.

    weights: the digest for each model, by its name.
    """

    source: str
    image: str
    weights: Mapping[str, str]
    reverts: str = ""

    @classmethod
    def of(cls, digests: Digests, *, source: str, reverts: str = "") -> Self:
        """Return the release of these digests."""
        return cls(source=source, image=digests.image, weights=digests.weights, reverts=reverts)

    @property
    def digests(self) -> Digests:
        """Return the digests."""
        return Digests(self.image, self.weights)

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
    if not isinstance(values, dict) or set(values) != set(FIELDS):
        raise Refused(f"{path.name} must have {', '.join(FIELDS)} and nothing else, or be empty: {{}}")
    for name, pattern in FORMS.items():
        if not re.fullmatch(pattern, str(values[name])):
            raise Refused(f"{path.name} has {name}={values[name]!r}, which doesn't match {pattern}")
    weights = values["weights"]
    if not isinstance(weights, dict) or not weights:
        raise Refused(f"{path.name} has weights={weights!r}, and must have a digest for each model there")
    for model, digest in weights.items():
        if not re.fullmatch(DIGEST, str(digest)):
            raise Refused(f"{path.name} has {digest!r} for the weights of {model}, which doesn't match {DIGEST}")
    return Approved(**values)
