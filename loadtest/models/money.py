"""What 1,000 answers would cost on a stage's nodes, if they were as fast as this machine."""

from dataclasses import dataclass, replace
from typing import Any

from config import ConfigError, Model, Stage
from cost.estimate import estimate, per_thousand
from cost.prices import Prices

ANSWER_TOKENS = 128  # of the answers that 1,000 are counted in


@dataclass(frozen=True)
class Money:
    """usd: for 1,000 answers of ANSWER_TOKENS, or 1,000 texts embedded; None, and `why` says why not."""

    usd: float | None
    why: str = ""


def per_thousand_answers(stage: Stage, prices: Prices, model: Model, answers_per_s: float) -> Money:
    """Return what they cost if the model is the stage's only one, with the fewest replicas.

    Its slots are taken as prices.toml assumes. Its pods are those that the stage has for it, or for its first model.
    answers_per_s: of one pod with every slot taken.
    """
    try:
        stage = replace(stage.find(model.name) or stage.each_model[0], model=model, aliases=())
        monthly = sum(line.minimum for line in estimate(stage, prices))
    except ConfigError as error:
        return Money(None, str(error))
    seconds, busy = stage.slots / answers_per_s, prices.assume("busy_share")
    usd = per_thousand(monthly, replicas=stage.min_replicas, slots=stage.slots, seconds=seconds, busy=busy)
    return (
        Money(round(usd, 4)) if usd is not None else Money(None, f"stage {stage.name!r} has 0 replicas at its fewest")
    )


def sized(name: str, size_bytes: int, info: dict[str, Any], kv_bytes: float) -> Model:
    """Return a model as config/model.py has them, from what /api/show says of its layers."""
    architecture = info.get("general.architecture", "")

    def of(field: str) -> int:
        value = info.get(f"{architecture}.{field}")
        return value if isinstance(value, int) else 0

    heads = of("attention.head_count") or 1
    size = of("attention.key_length") or of("embedding_length") // heads
    cached = 2 * of("block_count") * (of("attention.head_count_kv") or heads) * size * kv_bytes
    if info.get(f"{architecture}.attention.causal") is False:  # a model that reads a text whole keeps nothing of it
        cached = 0
    return Model(name=name, weights_mib=-(-size_bytes // 2**20), kv_kib_per_token=round(cached / 1024))
