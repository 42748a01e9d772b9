"""A real Ollama with the real small model."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from launcher.cache import cache_dir
from launcher.find_model import find_model
from launcher.ollama_process import OllamaProcess, ollama_of_our_own
from launcher.small_model import SMALL_MODEL
from service.settings import Settings

STARTING = 'msg="starting llama-server"'  # in its log, when it loads a model


class RealOllama:
    """A running Ollama; a fault test may kill `process`, and start() it again at the same address."""

    def __init__(self, ollama: OllamaProcess, model: str, log: Path) -> None:
        """Take what it was started with."""
        self.url, self.model = ollama.url, model
        self._ollama, self._log = ollama, log

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that serves at `url`, or the last one that did."""
        assert self._ollama.process is not None
        return self._ollama.process

    def log(self) -> str:
        """Return what it has written since it was first started."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start Ollama again after it was killed."""
        self._ollama.start()


@contextlib.contextmanager
def real_ollama(
    settings: Settings | None = None, *, models: Path | None = None, model: str | None = SMALL_MODEL
) -> Iterator[RealOllama]:
    """Run Ollama on a free port with the settings' slots and context, and the small model in its store.

    The store lies in the cache unless `models` is another folder; with `model=None` nothing is put into it.
    """
    environ = {**os.environ, "OLLAMA_MODELS": str(models or models_dir())}
    environ.pop("OLLAMA_HOST", None)
    with TemporaryDirectory(prefix="sluice-ollama-") as scratch:
        log = Path(scratch) / "ollama.log"
        with ollama_of_our_own(settings or Settings(), environ, log) as ollama:
            yield RealOllama(ollama, find_model(ollama.url, model, environ) if model else "", log)


def models_dir() -> Path:
    """Return the model store of tests and measurements, which is not the user's own."""
    return cache_dir(os.environ) / "test-models"
