"""What is tried: how many slots and threads a pod has, and how its llama-server computes."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from config import KV_SHARES

KV_TYPES = tuple(KV_SHARES)
FLASH = ("on", "off")
# Variables that a setting decides, whatever the caller's environment has.
DECIDED = (
    "OLLAMA_HOST",
    "OLLAMA_NUM_PARALLEL",
    "OLLAMA_CONTEXT_LENGTH",
    "OLLAMA_FLASH_ATTENTION",
    "OLLAMA_KV_CACHE_TYPE",
    "LLAMA_ARG_THREADS",
    "LLAMA_ARG_SPEC_TYPE",
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a model.

    batch: tokens of prompts that are read in one step; 0 leaves it to Ollama. kv: type of the cache of keys and values.
    """

    slots: int
    threads: int
    batch: int = 0
    flash: str = "on"
    kv: str = "f16"
    speculation: str = "none"

    @property
    def can_be(self) -> bool:
        """Say whether llama-server takes it: it quantises the cache's values only with flash attention."""
        return self.flash == "on" or self.kv == "f16"

    def with_(self, knob: str, value: Any) -> Self:
        """Return the setting with another value of one knob."""
        return replace(self, **{knob: value})

    def different_from(self, other: Self) -> str:
        """Return what differs from another setting, as `text()` has it."""
        knobs = [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]
        return ", ".join(f"{knob}={getattr(self, knob)}" for knob in knobs)

    def environ(self) -> dict[str, str]:
        """Return what Ollama must be started with, apart from its slots."""
        found = {"OLLAMA_FLASH_ATTENTION": "1" if self.flash == "on" else "0"}
        if self.kv != "f16":
            found["OLLAMA_KV_CACHE_TYPE"] = self.kv
        if self.speculation != "none":
            found["LLAMA_ARG_SPEC_TYPE"] = self.speculation
        return found

    def options(self, context_length: int) -> dict[str, int]:
        """Return what every request about the model says, so that it isn't loaded again.

        The batch is an option, because Ollama starts llama-server with one of its own, before which LLAMA_ARG_BATCH and
        LLAMA_ARG_UBATCH count for nothing.
        """
        found = {"num_ctx": context_length, "num_thread": self.threads}
        return found | ({"num_batch": self.batch} if self.batch else {})

    def text(self) -> str:
        """Return it in one line, without what is as Ollama has it."""
        told = [f"{field.name}={getattr(self, field.name)}" for field in fields(self)]
        usual = [f"{field.name}={field.default}" for field in fields(self)]
        return ", ".join(each for each, common in zip(told, usual, strict=True) if each != common)


KNOBS = tuple(field.name for field in fields(Setting))
