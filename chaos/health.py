"""Probes: /healthz and /readyz asked five times a second, as a cluster does, and how it went."""

import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

EVERY = 0.2  # seconds
PATIENCE = 2.0  # seconds; what the manifests give a readiness probe


@dataclass
class Health:
    """Asks each of the private ports for as long as a block runs."""

    private: Sequence[str]
    asked: int = 0
    failures: list[str] = field(default_factory=list)
    worst: float = 0.0  # seconds

    def __enter__(self) -> Self:
        self._over = threading.Event()
        urls = [f"{each}{path}" for each in self.private for path in ("/healthz", "/readyz")]
        self._threads = [threading.Thread(target=self._watch, args=(url,), name="health") for url in urls]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, url: str) -> None:
        while not self._over.wait(EVERY):
            started = time.monotonic()
            try:
                with urllib.request.urlopen(url, timeout=PATIENCE) as reply:  # noqa: S310
                    reply.read()
            except OSError as error:
                self.failures.append(f"{url}: {error}")
            self.asked += 1
            self.worst = max(self.worst, time.monotonic() - started)

    def words(self) -> str:
        """Return how it went."""
        return f"{len(self.failures)} of {self.asked} failed, at most {self.worst * 1000:.0f} ms"
