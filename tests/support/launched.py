"""`python -m launcher` as a user runs it, and what it has started."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import psutil

from testbed.fetching import Reply, fetch

STORY = {"prompt": "Tell me a story about a dog.", "stream": True, "seed": 1, "stop": ["@@@"]}


@dataclass
class Launched:
    """A running launcher."""

    process: subprocess.Popen[bytes]
    environ: dict[str, str]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    def ready(self) -> bool:
        assert self.process.poll() is None, self.output
        return "Open that page" in self.output

    def family(self) -> list[psutil.Process]:
        """Return every process that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def children(self, words: str) -> list[psutil.Process]:
        """Return the processes whose command lines have these words."""
        found = []
        for child in self.family():
            with suppress(psutil.NoSuchProcess):  # a zombie counts as one
                if words in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def child(self, words: str) -> psutil.Process | None:
        """Return the first of them, if there is one."""
        return next(iter(self.children(words)), None)

    def generate(self, prompt: str, max_tokens: int = 16) -> Reply:
        return fetch(f"http://127.0.0.1:{self.environ['PORT']}/generate", {"prompt": prompt, "max_tokens": max_tokens})

    @contextmanager
    def story(self, max_tokens: int = 150) -> Iterator[HTTPResponse]:
        """Stream an answer, of which one line has been read."""
        connection = HTTPConnection("127.0.0.1", int(self.environ["PORT"]), timeout=60)
        try:
            body = json.dumps(STORY | {"max_tokens": max_tokens})
            connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200
            assert json.loads(response.readline())
            yield response
        finally:
            connection.close()


Launch = Callable[..., Launched]
