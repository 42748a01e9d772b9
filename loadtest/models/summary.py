"""What the report of a comparison shows: what to take, what was found, and how sure that is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadtest.models.advice import memory_mib
from loadtest.models.money import ANSWER_TOKENS
from loadtest.models.plots import plots
from loadtest.models.speed import QUIET, TRIES
from loadtest.models.variant import SLOTS
from loadtest.reporting.document import Block, Cell, Table, cell
from loadtest.reporting.folder import Report

Entry = Mapping[str, Any]
UNKNOWN = "not known"


def blocks(report: Report) -> Iterator[Block]:
    """Yield the blocks of the report."""
    entries = report["models"]
    chat_models = [each for each in entries if "text" in each["quality"]]
    embedding_models = [each for each in entries if "meaning" in each["quality"]]
    advice = {"use": cell("use"), "take": cell("take"), "because": cell("why")}
    missing = {"model": cell("model"), "because": cell("reason")}
    yield about(report)
    yield Table.rows_of(report["recommendations"], advice, title="What to take for what")
    yield from plots(chat_models, embedding_models)
    yield Table.rows_of(chat_models, CHAT_MODELS, title="Chat models")
    yield Table.rows_of(embedding_models, EMBEDDING_MODELS, title="Embedding models")
    yield Table(_categories(entries), title="Right answers by category")
    yield Table.rows_of(entries, SIZES, title="Size, load and memory")
    yield Table([PLAN, *_for_plan(chat_models)], title="For `make plan`, where this machine is the instance")
    yield Table.rows_of(report["not_compared"], missing, title="Not compared")
    yield from (Table(_answers(each), title=f"Every answer of {each['label']}", folded=True) for each in entries)
    yield from notes(report)


def about(report: Report) -> str:
    """Return in a sentence what was measured where, and what disturbed it."""
    loud = [each for each in report["models"] if (each["speed"]["others"] or 0) > QUIET]
    listed = ", ".join(f"{each['label']} (up to {each['speed']['others']:.0%})" for each in loud)
    said = (
        f"{len(report['models'])} models and settings, one at a time, in Ollama {report['ollama']} on {report['cpu']} "
        f"with {report['memory_gib']:g} GiB, in {report['seconds'] / 60:.0f} minutes."
    )
    return f"{said} **Disturbed**: other programs took CPU from {listed}, whose speeds are too low." if loud else said


def _share(part: str) -> Cell:
    def text(entry: Entry) -> str:
        score = entry["quality"][part]
        return "{right} of {asked}: {:.0f} % ({:.0f} to {:.0f})".format(*(100 * x for x in score["share"]), **score)

    return text


def _speed(name: str) -> Cell:
    return cell("speed", "figures", name, spec=".3g", missing=UNKNOWN)


def _seconds(*path: str) -> Cell:
    def text(entry: Entry) -> str:
        found: Any = entry
        for name in path:
            found = found.get(name)
        if not found:
            return UNKNOWN
        return f"{found[0]:.2f} s" if found[0] >= 1 else f"{1000 * found[0]:.0f} ms"

    return text


MEANS: dict[str, Cell] = {
    "memory": lambda entry: f"{memory_mib(entry)} MiB",
    "$ per 1,000": cell("cost", "usd_per_1000", spec=".3g", missing=UNKNOWN),
}
CHAT_MODELS = {
    "model": cell("label"),
    "right answers (95 %)": _share("text"),
    "first token": _seconds("speed", "figures", "ttft_s"),
    "prompt tokens/s": _speed("prompt_tokens_per_s"),
    "tokens/s, 1 at a time": _speed("tokens_per_s_1"),
    f"tokens/s, {SLOTS} at once": _speed(f"tokens_per_s_{SLOTS}"),
    **MEANS,
}
EMBEDDING_MODELS = {
    "model": cell("label"),
    "nearest in meaning (95 %)": _share("meaning"),
    "a text": _seconds("speed", "figures", "text_s"),
    "texts/s, 1 at a time": _speed("texts_per_s_1"),
    f"texts/s, {SLOTS} at once": _speed(f"texts_per_s_{SLOTS}"),
    **MEANS,
}
SIZES: dict[str, Cell] = {
    "model": cell("label"),
    "from": lambda entry: entry["package"] or f"Ollama, {entry['digest']}",
    "parameters": cell("parameters"),
    "quantisation": cell("quantization"),
    "file": cell("bytes", scale=1e-6, spec=".0f", unit=" MB"),
    "load from disk": _seconds("load_s", "cold"),
    "from page cache": _seconds("load_s", "warm"),
    "llama-server's peak": cell("memory_mib", "process", unit=" MiB", missing=UNKNOWN),
    "by Ollama": cell("memory_mib", "ollama", unit=" MiB"),
    "of that on a GPU": cell("memory_mib", "ollama_gpu", unit=" MiB"),
    "others' CPU at most": cell("speed", "others", spec=".0%", missing=UNKNOWN),
}
PLAN = ("model", "--prefill", "--decode")


def _categories(entries: Sequence[Entry]) -> list[list[str]]:
    found = [{k: v for part in each["quality"].values() for k, v in part["categories"].items()} for each in entries]
    names = list(dict.fromkeys(name for each in found for name in each))
    rows = [
        [entry["label"], *("{} of {}".format(*each[name]) if name in each else "–" for name in names)]
        for entry, each in zip(entries, found, strict=True)
    ]
    return [["model", *names], *rows]


def _for_plan(entries: Sequence[Entry]) -> Iterator[tuple[str, str, str]]:
    for entry in entries:
        figures = entry["speed"]["figures"]
        prefill, one, many = (figures.get(n) for n in ("prompt_tokens_per_s", "decode_1", f"decode_{SLOTS}"))
        if prefill and one and many:
            yield entry["label"], f"{prefill[0]:.0f}", f"1:{one[0]:.3g},{SLOTS}:{many[0]:.3g}"


def _answers(entry: Entry) -> list[tuple[str, str, str]]:
    rows = [(id_, "right" if right else "**wrong**", answer) for id_, right, answer in entry["answers"]]
    return [("question", "", "answer"), *rows]


def notes(report: Report) -> Iterator[str]:
    """Yield what a reader must know before quoting a figure."""
    cost, (low, high) = report["cost"], report["load_average"]
    yield (
        f"Speeds are medians of {report['rounds']} rounds, with the bootstrap's 95 % interval. Rounds in which others "
        f"took more than {QUIET:.0%} of the CPUs were measured again, up to {TRIES} times as many in all, and the "
        f"quietest counted. Load average {low:g} at the start, {high:g} at the end."
    )
    yield (
        f"tokens/s: all tokens divided by the total time of {SLOTS} answers, prompts included; `decode_{SLOTS}` in "
        f"report.json is what each of {SLOTS} concurrent answers gets after its first token."
    )
    yield (
        "Right answers have Wilson's 95 % interval: with so few questions, models whose intervals overlap much may be "
        "equally good. The recommendations compare answer by answer (McNemar) and name what is too close to tell."
    )
    yield (
        f"$ per 1,000 answers of {ANSWER_TOKENS} tokens (or 1,000 texts): stage `{cost['stage']}` on {cost['node']} in "
        f"{cost['region'] or 'no region'}, for all that the stage needs, with slots as busy as prices.toml assumes. "
        f"The tokens/s were measured on this machine ({report['cpus']} CPUs), **not** on that instance: run it there."
    )
    yield from (f"No price for {e['label']}: {e['cost']['why']}." for e in report["models"] if e["cost"]["why"])
