"""How fast a model is: rounds of answers one at a time and several at once, of which the least disturbed count."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from loadtest.models.ollama_model import OllamaModel, Stream
from loadtest.models.variant import SLOTS
from loadtest.reporting.statistics import median

TOKENS = 64  # of each answer
QUIET = 0.1  # of all CPUs, used by others: a round with more is measured again
TRIES = 2  # rounds at most for each one wanted
TOPICS = ("rivers", "bread", "the moon", "trains", "music", "bees", "glass", "winter", "chess", "salt", "maps", "rain")
FILLER = "The rain falls on the old mill by the river while a quick brown fox jumps over a lazy dog. "  # 20 words
LONG, TEXTS = 16, 16  # fillers in the long prompt; texts that a round embeds
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Round:
    """What one round found, by name; others: the share of the CPUs that something else took meanwhile, if known."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    others: float | None = None

    def add(self, name: str, *values: float | None) -> None:
        """Add those values that there are."""
        self.figures.setdefault(name, []).extend(value for value in values if value is not None)


@dataclass(frozen=True)
class Speed:
    """Each figure as [median, low, high] of the rounds that count, how many were run, and the most of others' share."""

    figures: dict[str, list[float]]
    rounds: int
    run: int
    others: float | None


Others = Callable[[], Callable[[], float | None]]  # starts a watch, which gives its share at the end


def rounds(one: Callable[[], Round], wanted: int, others: Others, show: Callable[[str], None]) -> Speed:
    """Measure until `wanted` rounds were quiet, or TRIES times as many; the quietest count."""
    done: list[Round] = []
    while sum((each.others or 0.0) <= QUIET for each in done) < wanted and len(done) < TRIES * wanted:
        watch = others()
        found = one()
        found.others = watch()
        done.append(found)
        show(f"round {len(done)}, others took {found.others:.0%}" if found.others is not None else f"round {len(done)}")
    best = sorted(done, key=lambda each: each.others or 0.0)[:wanted]
    names = {name: None for each in best for name in each.figures}
    figures = {name: [value for each in best for value in each.figures.get(name, [])] for name in names}
    shares = [each.others for each in best if each.others is not None]
    return Speed(
        figures={name: median(values) for name, values in figures.items() if values},
        rounds=len(best),
        run=len(done),
        others=max(shares, default=None),
    )


def generating(model: OllamaModel) -> Callable[[], Round]:
    """Return a round of a model that writes."""
    prompts = _prompts()

    def one() -> Round:
        found = Round()
        alone, took = timed(lambda: [model.stream(next(prompts), max_tokens=TOKENS) for _ in range(SLOTS)])
        found.add("ttft_s", *(each.first for each in alone))
        found.add("decode_1", *(each.decode for each in alone))
        found.add("tokens_per_s_1", _tokens(alone) / took)
        together, took = timed(lambda: at_once(lambda p: model.stream(p, max_tokens=TOKENS), take(prompts)))
        found.add(f"decode_{SLOTS}", *(each.decode for each in together))
        found.add(f"tokens_per_s_{SLOTS}", _tokens(together) / took)
        found.add("prompt_tokens_per_s", _prefill(alone[0], model.stream(_long(next(prompts)), max_tokens=4)))
        return found

    return one


def embedding(model: OllamaModel) -> Callable[[], Round]:
    """Return a round of an embedding model: texts of about 25 words, one by one and several at once."""
    prompts = _prompts()

    def one() -> Round:
        found = Round()
        texts = [[f"{next(prompts)} {FILLER}"] for _ in range(2 * TEXTS)]
        each = [timed(lambda text=text: model.embed(text))[1] for text in texts[:TEXTS]]  # type: ignore[misc]
        found.add("text_s", *each)
        found.add("texts_per_s_1", len(each) / sum(each))
        _, took = timed(lambda: at_once(model.embed, texts[TEXTS:]))
        found.add(f"texts_per_s_{SLOTS}", TEXTS / took)
        return found

    return one


def _prompts() -> Iterator[str]:
    """Yield prompts of which no two start the same: what Ollama has of one can't answer the next sooner."""
    return (f"{number}. Tell me about {TOPICS[number % len(TOPICS)]}." for number in count(1))


def take(prompts: Iterator[str]) -> list[str]:
    """Return the next prompts, one a slot."""
    return [next(prompts) for _ in range(SLOTS)]


def at_once(ask: Callable[[T], R], asked: Sequence[T]) -> list[R]:
    """Ask with SLOTS threads, and return the answers."""
    with ThreadPoolExecutor(SLOTS) as pool:
        return list(pool.map(ask, asked))


def timed(action: Callable[[], R]) -> tuple[R, float]:
    """Return what an action gives, and its seconds."""
    started = time.perf_counter()
    return action(), time.perf_counter() - started


def _tokens(streams: Sequence[Stream]) -> int:
    return max(1, sum(each.tokens for each in streams))


def _long(prompt: str) -> str:
    return f"{prompt} {FILLER * LONG}"


def _prefill(short: Stream, long: Stream) -> float | None:
    """Return the tokens/s of prompts: of those that the long one has more, in the time that it took longer.

    What both share, such as a template, may lie in Ollama's cache.
    """
    if short.first is None or long.first is None or long.first <= short.first:
        return None
    return (long.prompt_tokens - short.prompt_tokens) / (long.first - short.first)
