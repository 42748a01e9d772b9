"""Ollama's description of the served model, for Ollama's own clients: bounded, and without paths of the host."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from service.engine_errors import answers_oddly

Fields = dict[str, Any]

MAX_VERSION = 64  # characters, as below
MAX_TEXTS = {"license": 4_096, "modelfile": 16_384, "template": 16_384, "system": 16_384, "parameters": 4_096}
MAX_TEXT = 1_024  # of any other text, such as a value of model_info
MAX_FIELDS, MAX_ITEMS, MAX_DEPTH = 256, 16, 4  # Ollama itself empties lists of more than five values in model_info
LISTED = ("name", "model", "modified_at", "size", "digest", "details", "capabilities")
RUNNING = ("name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length")
SHOWN = (
    *("license", "modelfile", "parameters", "template", "system", "renderer", "parser", "details", "messages"),
    *("model_info", "projector_info", "capabilities", "modified_at", "requires"),  # all but `tensors`
)
# The path of a file of the model store in a Modelfile of /api/show; the file's name is a digest.
STORED = re.compile(r"^((?:FROM|ADAPTER|DRAFT) )/.*/([^/\n]+)$", re.MULTILINE)


@dataclass(frozen=True)
class ModelFacts:
    """Ollama's version, and the model's entry in /api/tags and answer of /api/show."""

    version: str
    listed: Fields
    shown: Fields

    @classmethod
    def read(cls, version: Any, listed: Any, shown: Any) -> Self:
        """Return the facts in these answers; raises EngineFailed if they violate Ollama's API."""
        if not isinstance(version, str) or not isinstance(listed, dict) or not isinstance(shown, dict):
            raise answers_oddly(TypeError("not a model's facts"))
        kept = taken(shown, SHOWN)
        if isinstance(modelfile := kept.get("modelfile"), str):
            kept["modelfile"] = STORED.sub(r"\1\2", modelfile)
        told = taken(listed, LISTED)
        if "capabilities" in told and "capabilities" in kept:
            told["capabilities"] = kept["capabilities"]  # Ollama lists `completion` for some models that only embed
        return cls(version[:MAX_VERSION], told, kept)

    def told(self) -> Fields:
        """Return the facts as they are in /model of the private port."""
        return {"version": self.version, "listed": self.listed, "shown": self.shown}


def running_of(entry: Any) -> Fields | None:
    """Return a model's entry in /api/ps, None if there is none."""
    return taken(entry, RUNNING) if isinstance(entry, dict) else None


def taken(answer: Mapping[str, Any], names: tuple[str, ...]) -> Fields:
    """Return these fields of an answer, with bounds on their size."""
    kept = {name: _bounded(answer[name], MAX_TEXTS.get(name, MAX_TEXT)) for name in names if name in answer}
    details = kept.get("details")
    if isinstance(details, dict) and str(details.get("parent_model")).startswith("/"):  # also a file of the model store
        details["parent_model"] = str(details["parent_model"]).rpartition("/")[2]
    return kept


def _bounded(value: Any, text: int = MAX_TEXT, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value if len(value) <= text else f"{value[:text]}…"
    if not isinstance(value, dict | list):
        return value
    if depth == MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [_bounded(item, MAX_TEXT, depth + 1) for item in value[:MAX_ITEMS]]
    return {name[:MAX_TEXT]: _bounded(item, MAX_TEXT, depth + 1) for name, item in list(value.items())[:MAX_FIELDS]}
