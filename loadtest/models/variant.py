"""What is compared: a model as it is, or under a setting: `NAME` or `NAME@setting=value,setting=value`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from command_line import InputError
from config import KV_SHARES
from service.settings import Settings

SLOTS = 4  # answers at once in the second speed, and Ollama's OLLAMA_NUM_PARALLEL
KV_BYTES = {name: 2 * share for name, share in KV_SHARES.items()}  # of one value
CHOICES = {
    "kv": tuple(KV_BYTES),
    "flash": ("on", "off"),
    "quantize": ("q8_0", "q4_K_M", "q4_K_S"),
}
RANGES = {"num_ctx": (128, 1_048_576), "num_thread": (1, 1024)}
SETTINGS = ", ".join([*RANGES, *CHOICES])


@dataclass(frozen=True)
class Variant:
    """A model by its name in Ollama, and the settings that differ from ours."""

    model: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return it as it is written on the command line."""
        listed = ",".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.model}@{listed}" if listed else self.model

    @property
    def quantize(self) -> str:
        """Return the quantisation that Ollama is to make of the model; empty for the model as it is."""
        return self.settings.get("quantize", "")

    @property
    def kv_bytes(self) -> float:
        """Return the bytes of one value in the cache of keys and values."""
        return KV_BYTES[self.settings.get("kv", "f16")]

    def options(self, defaults: Settings) -> dict[str, Any]:
        """Return Ollama's options for requests, and for the load before them."""
        ours = {"num_ctx": defaults.context_length, "num_thread": defaults.threads}
        return {name: int(self.settings.get(name, value)) for name, value in ours.items()}

    def environ(self) -> dict[str, str]:
        """Return what Ollama must be started with; empty if any Ollama will do."""
        found = {}
        if "kv" in self.settings:
            found["OLLAMA_KV_CACHE_TYPE"] = self.settings["kv"]
        if "flash" in self.settings:
            found["OLLAMA_FLASH_ATTENTION"] = "1" if self.settings["flash"] == "on" else "0"
        return found


def read_variants(texts: Iterable[str]) -> list[Variant]:
    """Return the variants; raises InputError for one that can't be, or that is named twice."""
    variants = [_read(text) for text in texts]
    for index, variant in enumerate(variants):
        if variant in variants[:index]:
            raise InputError(f"{variant.label} is named twice: once is enough")
    return variants


def _read(text: str) -> Variant:
    model, at, listed = text.partition("@")
    if not model:
        raise InputError(f"{text!r} has no model before the @: write NAME@setting=value")
    settings: dict[str, str] = {}
    for pair in listed.split(",") if at else []:
        name, equals, value = pair.partition("=")
        if not equals or name in settings:
            raise InputError(f"{text!r} must be NAME@setting=value,setting=value with each of {SETTINGS} at most once")
        settings[name] = _checked(text, name, value)
    if settings.get("kv", "f16") != "f16" and settings.get("flash") == "off":
        raise InputError(f"{text!r} can't be: Ollama quantises the cache only with flash=on")
    return Variant(model, settings)


def _checked(text: str, name: str, value: str) -> str:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise InputError(f"{name}={value} in {text!r} is none of {', '.join(CHOICES[name])}")
        return value
    if name not in RANGES:
        raise InputError(f"{name!r} in {text!r} is no setting: {SETTINGS} are")
    low, high = RANGES[name]
    if not value.isdecimal() or not low <= int(value) <= high:
        raise InputError(f"{name}={value} in {text!r} is not a whole number from {low} to {high}")
    return str(int(value))
