"""Models, and what a stage that serves several says of each."""

import re
from dataclasses import dataclass, fields
from typing import Any

from config.node import Node

# Ollama without weights, context and prompt cache: the heap of its server (HEAP_MIB in launcher/ollama_process.py), and
# what its llama-server computes in. Measured with the small model and 8 slots busy: 95 and 130 MiB; the encoder of a
# model that sees takes some of the rest.
OLLAMA_OVERHEAD_MIB = 256 + 768
# Those of llama-server's --spec-type that need no second model: common/arg.cpp of llama.cpp b10488.
SPECULATIONS = ("none", "ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache")
# Size relative to keys and values in 16 bits: a block of ggml has 32 values, 64 bytes, and a scale of 2 bytes.
KV_SHARES = {"f16": 1.0, "q8_0": 34 / 64, "q4_0": 18 / 64}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")  # of a model in Ollama, and so of an alias
LONGEST_SLUG = 50  # of the 63 characters that a name in Kubernetes may have


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model by its name in Ollama, with what it takes in memory.

    weights_mib: its files. kv_kib_per_token: key and value of one token, 2 × layers × KV heads × head size × 2 bytes.
    """

    name: str
    weights_mib: int
    kv_kib_per_token: int

    @property
    def slug(self) -> str:
        """Return the name as a part of names in Kubernetes, of which there may be fewer than of models."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower())[:LONGEST_SLUG].strip("-")


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One more model of a stage, with pods, a queue and an autoscaler of its own.

    The fields are those of Stage. None: what the stage says of its first model holds for this one too.
    """

    model: Model
    aliases: tuple[str, ...] = ()
    slots: int | None = None
    cpus: int | None = None
    requested_cpus: float | None = None
    context_length: int | None = None
    prompt_cache_mib: int | None = None
    kv_type: str | None = None
    speculation: str | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    requests_per_replica: int | None = None
    node: Node | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """Return the fields of a Stage that differ for this model."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


def full_name(name: str) -> str:
    """Return a model's name as Ollama compares it, and as service/model_names.py has it for the gateway."""
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    return tagged.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")


# moondream 1.8B Q4 with its vision projector; Phi's 24 layers, 32 heads of 64 (ollama.com/library/moondream).
MOONDREAM = Model(name="moondream", weights_mib=1660, kv_kib_per_token=192)
# Gemma 3 270M Q4_K_M: 18 layers, 1 KV head of 256.
GEMMA_270M = Model(name="gemma3-270m", weights_mib=242, kv_kib_per_token=18)
# all-MiniLM-L6-v2 F16, which embeds: it reads a text whole, and keeps nothing of it (ollama.com/library/all-minilm).
ALL_MINILM = Model(name="all-minilm", weights_mib=44, kv_kib_per_token=0)
