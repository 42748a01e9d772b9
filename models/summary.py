"""A comparison in a page of Markdown."""

from collections.abc import Sequence
from typing import Any

from loadtest.document import markdown_table
from models.advice import interval, memory_mib
from models.money import ANSWER_TOKENS
from models.speed import QUIET, TRIES
from models.variant import SLOTS

Report = dict[str, Any]
Entry = dict[str, Any]
Table = tuple[list[str], list[list[str]]]  # headings, rows


def summary(report: Report) -> str:
    """Return the Markdown: what to take, what was found, how sure that is, and what was not."""
    parts = [f"# {report['name']}", "", about(report), "", f"    {report['command']}", ""]
    for title, table in tables(report).items():
        parts += [f"## {title}", "", markdown_table([table[0], *table[1]]), ""]
    parts += ["## What it rests on", "", *(f"- {line}" for line in notes(report)), ""]
    return "\n".join(parts)


def about(report: Report) -> str:
    """Return in a sentence what was measured where, when."""
    machine = report["machine"]
    return (
        f"{len(report['models'])} models and settings, one at a time, in Ollama {report['ollama']} "
        f"on {machine['cpus']} CPUs ({machine['cpu']}, {machine['memory_gib']:g} GiB), from {report['started']} for "
        f"{report['seconds'] / 60:.0f} minutes; revision {report['revision']}.{_disturbed(report['models'])}"
    )


def _disturbed(entries: Sequence[Entry]) -> str:
    loud = [each for each in entries if (each["speed"]["others"] or 0) > QUIET]
    if not loud:
        return ""
    listed = ", ".join(f"{each['label']} (up to {each['speed']['others']:.0%})" for each in loud)
    return f" **Disturbed**: other programs took CPU from {listed}, whose speeds are therefore too low."


def tables(report: Report) -> dict[str, Table]:
    """Return headings and rows by title; tables without rows are left out."""
    writers = [each for each in report["models"] if "text" in each["quality"]]
    readers = [each for each in report["models"] if "meaning" in each["quality"]]
    found = {
        "What to take for what": _advice(report),
        "Models that write": (_WRITERS, [_writer(each) for each in writers]),
        "Embedding models": (_READERS, [_reader(each) for each in readers]),
        "Right answers by category": _categories(report["models"]),
        "Size, load and memory": (_SIZES, [_size(each) for each in report["models"]]),
        "For `make plan`, where this machine is the instance": _for_plan(writers),
        "Not compared": (["model", "because"], [[each["model"], each["reason"]] for each in report["not_compared"]]),
    }
    return {title: table for title, table in found.items() if table[1]}


_WRITERS = [
    "model",
    "right answers (95 %)",
    "first token",
    "prompt tokens/s",
    "tokens/s, 1 at a time",
    f"tokens/s, {SLOTS} at once",
    "memory",
    "$ per 1,000",
    "Wh per 1,000",
]
_READERS = [
    "model",
    "nearest in meaning (95 %)",
    "a text",
    "texts/s, 1 at a time",
    f"texts/s, {SLOTS} at once",
    "memory",
    "$ per 1,000",
    "Wh per 1,000",
]
_SIZES = [
    "model",
    "from",
    "parameters",
    "quantisation",
    "file",
    "load from disk",
    "from page cache",
    "llama-server's peak",
    "by Ollama",
    "others' CPU",
]


def _advice(report: Report) -> Table:
    return ["use", "take", "because"], [[each["use"], each["take"], each["why"]] for each in report["recommendations"]]


def _writer(entry: Entry) -> list[str]:
    figures = entry["speed"]["figures"]
    return [
        entry["label"],
        _share(entry["quality"]["text"]),
        _seconds(figures.get("ttft_s")),
        _rate(figures.get("prompt_tokens_per_s")),
        _rate(figures["tokens_per_s_1"]),
        _rate(figures[f"tokens_per_s_{SLOTS}"]),
        *_means(entry),
    ]


def _reader(entry: Entry) -> list[str]:
    figures = entry["speed"]["figures"]
    return [
        entry["label"],
        _share(entry["quality"]["meaning"]),
        _seconds(figures["text_s"]),
        _rate(figures["texts_per_s_1"]),
        _rate(figures[f"texts_per_s_{SLOTS}"]),
        *_means(entry),
    ]


def _means(entry: Entry) -> list[str]:
    usd, energy = entry["cost"]["usd_per_1000"], entry["energy_wh_per_1000"]
    return [
        f"{memory_mib(entry)} MiB",
        f"{usd:.3g}" if usd is not None else "not known",
        f"{energy:g}" if energy is not None else "not known",
    ]


def _size(entry: Entry) -> list[str]:
    load, memory, others = entry["load_s"], entry["memory_mib"], entry["speed"]["others"]
    return [
        entry["label"],
        entry["package"] or f"Ollama, {entry['digest']}",
        entry["parameters"],
        entry["quantization"],
        f"{entry['bytes'] / 1e6:.0f} MB",
        _seconds(load["cold"]),
        _seconds(load["warm"]),
        f"{memory['process']} MiB" if memory["process"] else "not known",
        f"{memory['ollama']} MiB" + (f", GPU {memory['ollama_gpu']}" if memory["ollama_gpu"] else ""),
        f"≤ {others:.0%}" if others is not None else "not known",
    ]


def _categories(entries: Sequence[Entry]) -> Table:
    found = [{k: v for part in each["quality"].values() for k, v in part["categories"].items()} for each in entries]
    names = list(dict.fromkeys(name for each in found for name in each))
    rows = [
        [entry["label"], *("{} of {}".format(*each[name]) if name in each else "–" for name in names)]
        for entry, each in zip(entries, found, strict=True)
    ]
    return ["model", *names], rows


def notes(report: Report) -> list[str]:
    """Return what a reader must know before quoting a figure."""
    machine, cost = report["machine"], report["cost"]
    low, high = report["load_average"]
    unpriced = [f"{each['label']}: {each['cost']['why']}" for each in report["models"] if each["cost"]["why"]]
    return [
        f"Real: {report['real']} Simulated: nothing.",
        f"Speeds are medians of {report['rounds']} rounds, with the bootstrap's 95 % interval. Rounds in which others "
        f"took more than {QUIET:.0%} of the CPUs were measured again, up to {TRIES} times as many in all, and the "
        f"quietest counted. Load average {low:g} at the start, {high:g} at the end.",
        f"tokens/s are all tokens over all the time of {SLOTS} answers, prompts included; `decode_{SLOTS}` in "
        f"report.json is what each of {SLOTS} at once gets after its first token.",
        "Right answers have Wilson's 95 % interval: with so few questions, models whose intervals overlap much may be "
        "equally good. The recommendations compare answer by answer (McNemar) and name what is too close to tell.",
        f"$ per 1,000 answers of {ANSWER_TOKENS} tokens (or 1,000 texts): stage `{cost['stage']}` on {cost['node']} in "
        f"{cost['region'] or 'no region'}, everything that it needs, slots taken as prices.toml assumes. The tokens/s "
        f"were measured on this machine ({machine['cpus']} CPUs), **not** on that instance: run it there.",
        *(f"No price for {each}." for each in unpriced),
        f"Energy: {report['energy'] or 'not known, as neither RAPL nor nvidia-smi can be read here'}.",
    ]


def _for_plan(entries: Sequence[Entry]) -> Table:
    found = [(entry["label"], entry["speed"]["figures"]) for entry in entries]
    rows = [
        [
            label,
            f"{of['prompt_tokens_per_s'][0]:.0f}",
            f"1:{of['decode_1'][0]:.3g},{SLOTS}:{of[f'decode_{SLOTS}'][0]:.3g}",
        ]
        for label, of in found
        if {"prompt_tokens_per_s", "decode_1", f"decode_{SLOTS}"} <= of.keys()
    ]
    return ["model", "--prefill", "--decode"], rows


def _share(score: dict[str, Any]) -> str:
    share, low, high = (100 * each for each in score["share"])
    return f"{score['right']} of {score['asked']}: {share:.0f} % ({low:.0f} to {high:.0f})"


def _seconds(values: Sequence[float] | None) -> str:
    if not values:
        return "not known"
    return f"{values[0]:.2f} s" if values[0] >= 1 else f"{1000 * values[0]:.0f} ms"


def _rate(values: Sequence[float] | None) -> str:
    return interval(values) if values else "not known"
