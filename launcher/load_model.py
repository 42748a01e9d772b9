"""Has Ollama load models, and says in a sentence why it can't."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.console import Problem
from launcher.ollama_calls import OllamaError, call
from service.model_names import full_name
from service.ollama import CHATS, EMBEDS, LOAD_TIMEOUT, loading

TIMEOUT = 60.0  # seconds for what Ollama says of itself
# As words of Ollama's and of its llama-server's (llm/llama_server.go, fs/ggml/gguf.go of v0.32.15), with what to do.
REASONS = {
    r"unknown model architecture: '([^']+)'": "it needs a newer Ollama: this one doesn't know {0}",
    r"exceeds file size|unexpected EOF|invalid file magic": "its file is broken: `ollama rm` it, and start again",
    r"insufficient memory|out.of.memory|failed to allocate|allocation failed": "it doesn't fit in memory: {memory}",
    r"GGML_ASSERT\(rc == 0\)": "it can't start its threads, mostly for want of memory: {memory}",  # of pthread_create
    r"image generation": "it makes pictures; one that chats or embeds is wanted",
}


@dataclass(frozen=True)
class Model:
    """A model in Ollama's store, with its answer of /api/show. payload: its name and options in all requests."""

    payload: Mapping[str, Any]
    capabilities: Sequence[str]
    info: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the model's name."""
        return str(self.payload["model"])


def look_at(url: str, payload: Mapping[str, Any]) -> Model:
    """Return the model that `payload` names. Raises Problem, also if it can neither chat nor embed."""
    name = str(payload["model"])
    try:
        shown = call(url, "/api/show", {"model": name}, timeout=TIMEOUT)
    except OllamaError as error:
        raise Problem(_sentence(name, error.text, None)) from error
    capabilities = shown.get("capabilities") or ()
    if not {CHATS, EMBEDS} & set(capabilities):
        raise Problem(f"MODEL={name} can neither chat nor embed: what it has is {', '.join(capabilities) or 'none'}")
    return Model(payload, capabilities, shown.get("model_info") or {})


def load(url: str, model: Model, *, room_mib: int | None = None) -> None:
    """Have the Ollama at `url` load a model. room_mib: memory that there is, where it is known. Raises Problem."""
    try:
        path, body = loading(model.payload, model.capabilities)
        call(url, path, body, timeout=LOAD_TIMEOUT)
    except OllamaError as error:
        raise Problem(_sentence(model.name, error.text, room_mib)) from error


def load_model(url: str, payload: Mapping[str, Any]) -> None:
    """Have the Ollama at `url` load the model that `payload` names, with its options. Raises Problem."""
    load(url, look_at(url, payload))


def need_all_loaded(url: str, models: Sequence[Model]) -> None:
    """Raise Problem if Ollama has unloaded one of the models that it loaded: it would do so again and again."""
    try:
        running = call(url, "/api/ps", timeout=TIMEOUT).get("models") or ()
    except OllamaError as error:
        raise Problem(f"the Ollama at {url} doesn't say which models are loaded: {error.text}") from error
    kept = {full_name(each["name"]) for each in running}
    if missing := [model.name for model in models if full_name(model.name) not in kept]:
        advice = f"set its OLLAMA_MAX_LOADED_MODELS to {len(models)}, or free some memory"
        raise Problem(f"the Ollama at {url} has unloaded {' and '.join(missing)} to load another model: {advice}")


def _sentence(name: str, text: str, room: int | None) -> str:
    memory = "free some, or take a smaller model" if room is None else f"{room} MiB are free; take a smaller model"
    for pattern, words in REASONS.items():
        if found := re.search(pattern, text, re.IGNORECASE):
            return f"Ollama can't load MODEL={name}: {words.format(*found.groups(), memory=memory)}"
    return f"Ollama can't load MODEL={name}: {text}"
