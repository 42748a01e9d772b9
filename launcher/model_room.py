"""How much memory models take, and whether there is as much, before any of them is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.console import Problem
from launcher.load_model import TIMEOUT, Model
from launcher.memory import default_mib
from launcher.ollama_calls import OllamaError, call
from service.model_names import with_tag
from service.ollama import CHATS

MIB = 2**20
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri/renderD128")  # where one is, the model may lie in its memory


@dataclass(frozen=True)
class Needs:
    """The least that a model takes, in MiB."""

    name: str
    weights: int
    context: int

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.weights + self.context

    def __str__(self) -> str:
        return f"{self.weights} MiB of weights and {self.context} MiB of context"


def needs_of(url: str, model: Model, slots: int) -> Needs:
    """Return what a model takes with a context for each slot. Raises Problem."""
    tokens = slots * int(model.payload["options"]["num_ctx"]) if CHATS in model.capabilities else 0
    try:
        return Needs(model.name, weights_mib(url, model.name), context_mib(model.info, tokens))
    except OllamaError as error:
        raise Problem(f"Ollama doesn't say how large MODEL={model.name} is: {error.text}") from error


def need_room(models: Sequence[Needs], each: int, together: int) -> None:
    """Raise Problem unless every model fits `each` MiB, which its process may take, and all of them fit `together`."""
    for needs in models:
        if needs.total > each:
            smaller = "take a smaller model"
            advice = smaller if needs.weights > each else f"lower SLOTS or CONTEXT_LENGTH, or {smaller}"
            room = f"{needs} are needed, {each} MiB are free"
            raise Problem(f"MODEL={needs.name} doesn't fit in memory: {room}; {advice}")
    if len(models) > 1 and (total := sum(needs.total for needs in models)) > together:
        told = ", ".join(f"{needs.name} needs {needs}" for needs in models)
        advice = "lower SLOTS or CONTEXT_LENGTH, or take smaller or fewer models"
        names = " ".join(needs.name for needs in models)
        room = f"{total} MiB in all are needed, {together} MiB are free"
        raise Problem(f"MODEL={names}: these don't fit in memory together: {told}; {room}; {advice}")


def room_mib(limit: int, environ: Mapping[str, str], *, root: Path = Path("/")) -> int | None:
    """Return the memory in which models must fit: `limit`, or what is free where that is 0; None: not known."""
    if any((root / path.lstrip("/")).exists() for path in GPUS) or environ.get("OLLAMA_KV_CACHE_TYPE"):
        return None
    return limit or default_mib(root)


def weights_mib(url: str, name: str) -> int:
    """Return the size of the model's files, which is the least that it takes. Raises OllamaError."""
    listed = call(url, "/api/tags", timeout=TIMEOUT).get("models") or ()
    sizes = {each["name"].casefold(): int(each["size"]) for each in listed}
    return sizes.get(with_tag(name).casefold(), 0) // MIB


def context_mib(info: Mapping[str, Any], tokens: int) -> int:
    """Return what `tokens` of context take: keys and values of 16 bits; 0 for models that keep less than all of them.

    info: what /api/show says of the model.
    """
    kind = info.get("general.architecture")
    own = {name.removeprefix(f"{kind}."): value for name, value in info.items()}
    if any(name.startswith("ssm.") for name in own) or "attention.kv_lora_rank" in own:
        return 0
    try:
        key = int(own.get("attention.key_length") or own["embedding_length"] // own["attention.head_count"])
        value = int(own.get("attention.value_length") or key)
        return int(tokens * own["block_count"] * own["attention.head_count_kv"] * (key + value) * 2 // MIB)
    except (LookupError, TypeError, ArithmeticError):  # a list, where layers differ, or nothing
        return 0
