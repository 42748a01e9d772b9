"""The Ollama that measures: one of our own for each variant, or the one at OLLAMA_HOST."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from launcher.cache import cache_dir
from launcher.console import Problem, Progress
from launcher.find_model import HUB_TIMEOUT, UNREACHABLE, pulling
from launcher.ollama_calls import OllamaError, answers, call, has_model
from launcher.ollama_process import ollama_of_our_own
from launcher.small_model import SMALL_MODEL, install_small_model
from loadtest.models.packages import PACKAGES, install
from loadtest.models.variant import SLOTS, Variant
from service.settings import Settings, ollama_url

TIMEOUT = 60.0  # seconds for an answer that needs no model
QUANTIZE_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Server:
    """A running Ollama; pid: its process if it is ours, else None."""

    url: str
    pid: int | None


@contextmanager
def open_server(variant: Variant, environ: Mapping[str, str]) -> Iterator[Server]:
    """Yield the Ollama at OLLAMA_HOST, or start one as the variant needs it. Raises Problem."""
    if host := environ.get("OLLAMA_HOST"):
        url = ollama_url(host)
        if not answers(url):
            raise Problem(f"no Ollama answers at OLLAMA_HOST={host}: start it, or unset OLLAMA_HOST")
        if needed := variant.environ():
            raise Problem(f"the Ollama at OLLAMA_HOST={host} is started already, so {', '.join(needed)} can't be set")
        yield Server(url, None)
        return
    ours = {"OLLAMA_NUM_PARALLEL": str(SLOTS), **variant.environ()}  # whatever the caller's environment has
    log = cache_dir(environ) / "ollama-models.log"
    with ollama_of_our_own(Settings(slots=SLOTS), {**environ, **ours}, log) as ollama:
        yield Server(ollama.url, ollama.process.pid if ollama.process else None)


@contextmanager
def fetched(url: str, variant: Variant, environ: Mapping[str, str]) -> Iterator[str]:
    """Have Ollama hold the variant's model, and yield its name there; what is made only to compare goes again.

    Raises Problem when it can't be had.
    """
    try:
        if not has_model(url, variant.model, timeout=TIMEOUT):
            _fetch(url, variant.model, environ)
        name = _quantised(url, variant) if variant.quantize else variant.model
    except OllamaError as error:
        raise Problem(_reason(error)) from error
    try:
        yield name
    finally:
        if variant.quantize:
            _delete(url, name)


def _quantised(url: str, variant: Variant) -> str:
    name = f"sluice-comparison:{variant.quantize.lower()}"
    with Progress(f"quantising {variant.model} to {variant.quantize}"):
        wish = {"model": name, "from": variant.model, "quantize": variant.quantize}
        call(url, "/api/create", wish, timeout=QUANTIZE_TIMEOUT)
    return name


def _reason(error: OllamaError) -> str:
    """Return why a model can't be had, without the addresses that Ollama names."""
    if UNREACHABLE.search(error.text):
        return "it isn't in Ollama's store, and the model hub can't be reached"
    if "file does not exist" in error.text:
        return "the model hub has no such model; see https://ollama.com/library"
    return error.text


def _fetch(url: str, name: str, environ: Mapping[str, str]) -> None:
    if name == SMALL_MODEL:
        install_small_model(url, environ)
    elif name in PACKAGES:
        install(url, name, environ)
    else:
        # Unlike with `make serve`, nothing stands in for a model: it is this one that is compared.
        for _ in pulling(url, name, timeout=HUB_TIMEOUT):
            pass


def _delete(url: str, name: str) -> None:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    with closing(connection), suppress(OSError, HTTPException):  # an Ollama that has gone is the larger problem
        connection.request("DELETE", "/api/delete", json.dumps({"model": name}))
        connection.getresponse().read()
