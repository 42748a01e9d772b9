"""Has Ollama load the model, and says in a sentence why it can't."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.console import Problem
from launcher.memory import default_mib
from launcher.ollama_calls import OllamaError, call
from service.model_names import with_tag
from service.ollama import CHATS, EMBEDS, LOAD_TIMEOUT, loading

TIMEOUT = 60.0  # seconds for what Ollama says of itself
MIB = 2**20
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri/renderD128")  # where one is, the model may lie in its memory
# As words of Ollama's and of its llama-server's (llm/llama_server.go, fs/ggml/gguf.go of v0.32.15), with what to do.
REASONS = {
    r"unknown model architecture: '([^']+)'": "it needs a newer Ollama: this one doesn't know {0}",
    r"exceeds file size|unexpected EOF|invalid file magic": "its file is broken: `ollama rm` it, and start again",
    r"insufficient memory|out.of.memory|failed to allocate|allocation failed": "it doesn't fit in memory: {memory}",
    r"image generation": "it makes pictures; one that chats or embeds is wanted",
}


def load_model(url: str, payload: Mapping[str, Any], *, slots: int = 0, room_mib: int | None = None) -> None:
    """Have the Ollama at `url` load the model that `payload` names, with its options.

    slots: requests at once, each with a context. room_mib: memory that there is, where it is known. Raises Problem.
    """
    name = str(payload["model"])
    try:
        shown = call(url, "/api/show", {"model": name}, timeout=TIMEOUT)
        capabilities = shown.get("capabilities") or ()
        if not {CHATS, EMBEDS} & set(capabilities):
            raise Problem(
                f"MODEL={name} can neither chat nor embed: what it has is {', '.join(capabilities) or 'none'}"
            )
        if room_mib is not None:
            tokens = slots * int(payload["options"]["num_ctx"]) if CHATS in capabilities else 0
            _need_room(name, weights_mib(url, name), context_mib(shown.get("model_info") or {}, tokens), room_mib)
        path, body = loading(payload, capabilities)
        call(url, path, body, timeout=LOAD_TIMEOUT)
    except OllamaError as error:
        raise Problem(_sentence(name, error.text, room_mib)) from error


def room_mib(limit: int, environ: Mapping[str, str], *, root: Path = Path("/")) -> int | None:
    """Return the memory in which the model must fit: `limit`, or what is free where that is 0; None: not known."""
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


def _need_room(name: str, weights: int, context: int, room: int) -> None:
    if weights + context > room:
        needs = f"{weights} MiB of weights and {context} MiB of context are needed"
        advice = "take a smaller model" if weights > room else "lower SLOTS or CONTEXT_LENGTH, or take a smaller model"
        raise Problem(f"MODEL={name} doesn't fit in memory: {needs}, {room} MiB are free; {advice}")


def _sentence(name: str, text: str, room: int | None) -> str:
    memory = "free some, or take a smaller model" if room is None else f"{room} MiB are free; take a smaller model"
    for pattern, words in REASONS.items():
        if found := re.search(pattern, text, re.IGNORECASE):
            return f"Ollama can't load MODEL={name}: {words.format(*found.groups(), memory=memory)}"
    return f"Ollama can't load MODEL={name}: {text}"
