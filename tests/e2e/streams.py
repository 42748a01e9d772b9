"""Clients that stream answers one after the other, and count what doesn't come to a good end."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

PAUSE = 0.5  # seconds of a client between two answers: the model would take all CPUs from what is tested


class Streams:
    """What a number of clients saw: `outcomes` counts `complete`, each status and error code, and each way to break.

    keep_alive: a client sends its next request on the same connection, unless the answer says that it closes.
    """

    def __init__(self, host: str, body: dict[str, Any], *, keep_alive: bool = False) -> None:
        self.outcomes: Counter[str] = Counter()
        self.trouble: list[str] = []
        self._host, self._body, self._keep_alive = host, json.dumps(body | {"stream": True}), keep_alive
        self._stop = threading.Event()

    @property
    def lost(self) -> int:
        """Return how many requests had no complete answer."""
        return self.outcomes.total() - self.outcomes["complete"]

    @contextmanager
    def running(self, clients: int) -> Iterator["Streams"]:
        """Have clients ask until the block ends, and wait for their last answers."""
        threads = [threading.Thread(target=self._ask_on) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _ask_on(self) -> None:
        connection = HTTPConnection(self._host, timeout=120)
        while not self._stop.is_set():
            started = time.time()
            outcome = self._ask(connection)
            if outcome != "complete" or not self._keep_alive:
                connection.close()  # the next request opens another one
            self.outcomes[outcome] += 1
            if outcome != "complete":
                self.trouble.append(
                    f"{time.strftime('%X', time.gmtime(started))} +{time.time() - started:.1f} s: {outcome}"
                )
            self._stop.wait(PAUSE)
        connection.close()

    def _ask(self, connection: HTTPConnection) -> str:
        try:
            connection.request("POST", "/generate", self._body)
            response = connection.getresponse()
            lines = response.read().splitlines()
        except (OSError, HTTPException) as error:
            return repr(error)
        last = json.loads(lines[-1]) if lines else {}
        if response.status != 200 or "error" in last:
            return f"{response.status} {last.get('error')}"
        return "complete" if last.get("done") else "truncated"
