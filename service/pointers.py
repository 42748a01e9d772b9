"""The route that a 404 or 405 suggests: the one that was probably meant."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from werkzeug.routing import Map

LONGEST = 128  # characters of a path that is compared
MOST_PARTS = 8
ALIKE = 0.8  # similarity of a path and its misspelling
DIALECTS = ("v1", "api")  # path prefixes: OpenAI's and Anthropic's, and Ollama's
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
# OpenAI's paths of stored answers.
KEPT = re.compile(r"/v1/(?:responses|chat/completions|conversations)/[^/]+(?:/(?:input_items|items|messages|cancel))?")
PRIVATE = ("/healthz", "/readyz", "/metrics")
ON_PRIVATE_PORT = "probes and metrics are on the private port (PRIVATE_PORT)"
NOT_KEPT = "nothing is stored here: an answer is given once, to who asked for it"


@dataclass(frozen=True)
class Pointer:
    """A route as shown to callers; `{name}` in its path is a parameter."""

    method: str
    path: str

    @property
    def hint(self) -> str:
        """Return the sentence for an error."""
        return f"did you mean {self.method} {self.path}?"

    @property
    def dialect(self) -> str:
        """Return the prefix of its path, if it is one of DIALECTS."""
        first = _parts(self.path)[0]
        return first if first in DIALECTS else ""

    def ends(self, parts: list[str]) -> int:
        """Return how many parts it has after its dialect's prefix if the path ends with them, else 0."""
        own = _parts(self.path.removeprefix(f"/{self.dialect}"))
        end = parts[-len(own) :]
        same = len(end) == len(own) and all(a == b or a[:1] == "{" for a, b in zip(own, end, strict=True))
        return len(own) if same and any(end) else 0


def pointers(routes: Map) -> tuple[Pointer, ...]:
    """Return the routes of an app that errors can suggest, in order."""
    return tuple(_pointers(routes))


def _pointers(routes: Map) -> Iterator[Pointer]:
    for rule in routes.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield Pointer(method, PARAMETER.sub(r"{\1}", rule.rule))


def _parts(path: str) -> list[str]:
    return path.strip("/").split("/")


def not_kept(method: str, path: str) -> bool:
    """Say whether a request asks for an answer that OpenAI would have stored."""
    asks = method != "POST" or path.endswith("/cancel")
    return asks and len(path) <= LONGEST and bool(KEPT.fullmatch(path))


def meant(method: str, path: str, known: Sequence[Pointer]) -> Pointer | None:
    """Return the route that was probably meant; None if none is similar."""
    path = path.lower()
    parts = _parts(path)
    if len(path) > LONGEST or len(parts) > MOST_PARTS or not known:
        return None
    said = next((part for part in reversed(parts) if part in DIALECTS), "")

    def likeness(each: Pointer) -> tuple[bool, int, bool, bool]:
        return each.path == path, each.ends(parts), each.dialect == said, each.method == method

    best = max(known, key=likeness)
    alike = best.path == path or best.ends(parts) > 0
    begun = [each for each in known if said and each.path.startswith(f"{path.rstrip('/')}/")]
    if alike and (best.dialect == said or not begun):
        return best
    close = begun or get_close_matches(path, [each.path for each in known], 1, ALIKE)
    found = [each for each in known if each in close or each.path in close]
    return max(found, key=lambda each: each.method == method, default=None)
