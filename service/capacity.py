"""The slots that this process offers, in the log once a minute: a bill divides what the nodes cost by them."""

import logging
import threading
import time

log = logging.getLogger("sluice.capacity")

EVERY = 60.0  # seconds; after a kill, as many at most are missing from the bill


class Capacity:
    """Writes a line a minute with the slots, and the seconds since the previous line."""

    def __init__(self, model: str, slots: int) -> None:
        self._model, self._slots = model, slots
        self._since, self._ended, self._lock = time.monotonic(), threading.Event(), threading.Lock()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="capacity", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            self.write()

    def write(self) -> None:
        """Write a line."""
        with self._lock:
            now = time.monotonic()
            seconds, self._since = now - self._since, now
        fields = {"model": self._model, "slots": self._slots, "seconds": round(seconds, 3)}
        log.info("capacity", extra={"fields": fields})

    def end(self) -> None:
        """Write the last line."""
        self._ended.set()
        self.write()
