"""Which model to take for what, by the figures alone; a lead that chance explains is named as such."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from loadtest.models.quality import PARTS
from loadtest.models.variant import SLOTS
from loadtest.reporting.statistics import interval_text, mcnemar_p

CHANCE = 0.05  # a difference that chance makes as large more often than this is none
ROOMS = (1, 2, 4, 8, 16, 32, 64)  # GiB
Entry = dict[str, Any]


def advise(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """Return use, model and reason, for each use that a measured model serves."""
    chat_models = [each for each in entries if "text" in each["quality"]]
    embedding_models = [each for each in entries if "meaning" in each["quality"]]
    found = [
        *_fastest(chat_models, "one user at a time, soonest whole answer", "tokens_per_s_1", "tokens/s"),
        *_fastest(chat_models, f"many users: most answers of {SLOTS} at once", f"tokens_per_s_{SLOTS}", "tokens/s"),
        *_rooms(chat_models),
        *_pictures(entries),
        *_best(embedding_models, "embeddings: nearest in meaning", "meaning"),
        *_fastest(embedding_models, "embeddings: most texts", f"texts_per_s_{SLOTS}", "texts/s"),
        *_cheapest(chat_models, "cheapest 1,000 answers", lambda each: 1.0),
        *_cheapest(
            chat_models, "cheapest 1,000 right answers", lambda each: float(each["quality"]["text"]["share"][0])
        ),
    ]
    return [dict(zip(("use", "take", "why"), row, strict=True)) for row in found]


Rows = Iterator[tuple[str, str, str]]


def _fastest(entries: Sequence[Entry], use: str, figure: str, unit: str) -> Rows:
    if not entries:
        return
    of: Callable[[Entry], list[float]] = lambda each: each["speed"]["figures"][figure]  # noqa: E731
    best = max(entries, key=lambda each: of(each)[0])
    close = [each["label"] for each in entries if each is not best and of(each)[2] >= of(best)[1]]
    yield use, best["label"], f"{interval_text(of(best), '.3g')} {unit}{_too_close(close)}"


def _rooms(entries: Sequence[Entry]) -> Rows:
    """Yield the best answers for each amount of memory that allows better ones than less did."""
    before = None
    for room in ROOMS:
        fitting = [each for each in entries if memory_mib(each) <= room * 1024]
        for use, label, why in _best(fitting, f"best answers in {room} GiB", "text"):
            if label != before:
                yield use, label, why
            before = label


def _best(entries: Sequence[Entry], use: str, part: str) -> Rows:
    if not entries:
        return
    best = max(entries, key=lambda each: (each["quality"][part]["right"], -memory_mib(each)))
    score = best["quality"][part]
    close = [each["label"] for each in entries if each is not best and not _differ(best, each, part)]
    low, high = (f"{100 * bound:.0f}" for bound in score["share"][1:])
    yield use, best["label"], f"{score['right']} of {score['asked']} right ({low} to {high} %){_too_close(close)}"


def _differ(a: Entry, b: Entry, part: str) -> bool:
    return mcnemar_p(_marks(a, part), _marks(b, part)) <= CHANCE


def _marks(entry: Entry, part: str) -> list[bool]:
    categories = entry["quality"][part]["categories"]
    return [right for id_, right, _ in entry["answers"] if id_.partition("-")[0] in categories]


def _pictures(entries: Sequence[Entry]) -> Rows:
    seeing = [each for each in entries if PARTS["vision"] in each["quality"]]
    if seeing:
        yield from _best(seeing, "pictures", PARTS["vision"])
    else:
        yield "pictures", "none of these", "none can see: moondream is the smallest of Ollama's hub that does"


def _cheapest(entries: Sequence[Entry], use: str, share: Callable[[Entry], float]) -> Rows:
    priced = {each["label"]: each["cost"]["usd_per_1000"] / share(each) for each in entries if _has_price(each, share)}
    if priced:
        best = min(priced, key=lambda label: priced[label])
        yield use, best, f"${priced[best]:.3g}"


def _has_price(entry: Entry, share: Callable[[Entry], float]) -> bool:
    return entry["cost"]["usd_per_1000"] is not None and share(entry) > 0


def memory_mib(entry: Entry) -> int:
    """Return what the model takes: its process at the peak where that is known, else what Ollama says."""
    memory = entry["memory_mib"]
    return int((memory["process"] or memory["ollama"]) + (memory["ollama_gpu"] if memory["process"] else 0))


def _too_close(labels: Sequence[str]) -> str:
    return f"; too close to tell: {', '.join(labels)}" if labels else ""
