"""One request to the engine: sent when it is its turn, and resent if the engine dies under it."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.client import ClientConnection
from service.engine_errors import RETRY_AFTER, EngineDied, EngineDown
from service.errors import ClientGone, EngineUnavailable, KillsEngine
from service.metrics import ModelMetrics
from service.model_watch import ModelWatch
from service.ollama import Ollama, encode
from service.reply import Reply
from service.runs import Runs
from service.suspects import Suspects
from service.suspicions import MEMORY, Culprit

LOOK = 0.25  # seconds between two checks whether a waiting client is still there
POLL = 0.1  # seconds between two checks whether a lost engine is back
PATIENCE = 15.0  # seconds an engine may be away before requests are refused at once
DEATHS_HEADER = "X-Engine-Deaths"  # from a front to a pod: how many engines have died during this request
BREAKS = 2  # exchanges of a request that may break off while the engine is alive
T = TypeVar("T")


@dataclass(frozen=True)
class Engine:
    """The engine, its state, and the requests suspected of killing it; everybody: those of all models of one Ollama."""

    ollama: Ollama
    watch: ModelWatch
    suspects: Suspects
    metrics: ModelMetrics
    waits: bool = True  # for a lost engine to return; if not, a request that it hasn't got yet fails, for another pod
    everybody: Suspects | None = None


@dataclass
class Call:
    """A request to the engine. Times are by time.monotonic(); close() may be called twice."""

    engine: Engine
    path: str
    payload: dict[str, Any]
    client: ClientConnection
    deadline: float
    headers: Mapping[str, str] = field(default_factory=dict)
    deaths: int = 0  # of other pods' engines during this request
    delayed: bool = False  # by the engine's death, so that its duration says nothing about other requests
    _reply: Reply | None = None
    _breaks: int = 0
    _loads: int = 0  # how often the model had been loaded when the request was sent
    _body: bytes = field(init=False, repr=False)
    _fingerprint: str = field(init=False)
    _run: Runs = field(init=False)

    def __post_init__(self) -> None:
        self._body = encode(self.payload)
        self._fingerprint = fingerprint(self.path, self.payload, self._body)
        if self.deaths:
            self.engine.suspects.suspect(self._fingerprint, self.deaths)
        self._run = self._new_run()

    def _new_run(self) -> Runs:
        return Runs(self.engine.suspects, self.engine.everybody, self._fingerprint)

    def ask(self, read: Callable[[Reply], T]) -> T:
        """Send the request and return what `read` makes of the reply; retry whenever the engine dies meanwhile.

        Nothing of an earlier try may have reached the client. Raises a ServiceError or ClientGone.
        """
        while True:
            try:
                result = read(self._send())
                self._run.progress()
                return result
            except EngineDied as died:
                self.survive(died)

    def header(self, name: str) -> str:
        """Return a header of the reply, nothing if it isn't there."""
        return self._reply.header(name) if self._reply else ""

    def number(self, header: str) -> float:
        """Return the number in a header of the reply, 0 if there is none."""
        try:
            return float(self.header(header) or 0)
        except ValueError:
            return 0.0

    def _send(self) -> Reply:
        self._await_turn()
        while True:
            self._run.send()
            self._loads = self.engine.watch.loads
            try:
                self._reply = self.engine.ollama.request(
                    self.path, self._body, timeout=self._left(), client=self.client, headers=self._headers()
                )
                return self._reply
            except EngineDown as down:
                self._run.unsent()
                self._await_return(down)

    def _headers(self) -> Mapping[str, str]:
        """Return the headers, with which a pod also learns that other pods' engines died during this request."""
        deaths = self.engine.suspects.reported(self._fingerprint)
        return {**self.headers, DEATHS_HEADER: str(deaths)} if deaths else self.headers

    def convict(self) -> None:
        """Have this request refused from now on; a pod's gateway may have found out that it kills the engine."""
        self.engine.suspects.convict(self._fingerprint)

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _await_turn(self) -> None:
        while not self._turn():
            self.delayed = True
            self._look_at_client()
            if self.engine.suspects.doubtful:
                self.engine.watch.wake()
            if self._left() <= 0:
                message = "the model server was busy with finding out which request ends it"
                raise EngineUnavailable(message, retry_after=RETRY_AFTER)

    def _turn(self) -> bool:
        try:
            return self._run.wait(LOOK)
        except Culprit:
            raise self._refused() from None

    def _await_return(self, down: EngineDown) -> None:
        """Wait until the engine can be asked again; raises `down` if that takes too long."""
        self.engine.watch.lost()
        patience = PATIENCE if self.engine.waits or self.delayed else 0.0
        self.delayed = True
        while True:
            if self.engine.ollama.pool.down_for >= patience or self._left() <= 0:
                raise down
            time.sleep(POLL)
            self._look_at_client()
            if self.engine.watch.ready:
                return

    def _look_at_client(self) -> None:
        if self.client.gone():
            raise ClientGone

    def survive(self, died: EngineDied) -> None:
        """Return if the request may be resent; else raise the error for its caller."""
        self.judge(died, again=True)
        if self._breaks > BREAKS:
            raise died
        self.engine.metrics.sent_again.inc()

    def judge(self, died: EngineDied, *, again: bool = False) -> None:
        """Find out whether the engine has died, and if so blame the requests that were with it; raises KillsEngine."""
        self.delayed = True
        self._end_try()
        if died.cut:  # by the watch, which is restarting a stuck engine
            self._breaks += 1
            self._die(again=again, cut=True)
            return
        if not died.told and self.engine.ollama.lives() and self.engine.watch.loads == self._loads:
            self._breaks += 1
            if died.reported:
                self.engine.suspects.report(self._fingerprint)
            self._run.end(answered=False)
            self._run = self._new_run()
            return
        self.engine.watch.lost()
        whole = self.engine.everybody is not None and not died.told and self.engine.ollama.holds_nothing()
        self._die(again=again, whole=whole)

    def _die(self, *, again: bool, cut: bool = False, whole: bool = False) -> None:
        try:
            first = self._run.died(again=again, cut=cut, whole=whole)
        except Culprit as culprit:
            first = culprit.first
            raise self._refused() from None
        finally:
            self.engine.metrics.engine_deaths.inc(first)

    def _refused(self) -> KillsEngine:
        hint = f"change it, or send it again after {MEMORY / 60:.0f} minutes"
        return KillsEngine("this request ended the model server twice and is not sent to it again", hint=hint)

    def _end_try(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.close()

    def close(self, *, answered: bool) -> None:
        """Cancel Ollama's work if it still runs, and have an engine checked that has been silent for long."""
        last = max(self._run.since, self.engine.ollama.pool.heard)
        if self._run.with_engine and not answered and time.monotonic() - last >= self.engine.watch.silence:
            self.engine.watch.doubt()
        self._end_try()
        self._run.end(answered=answered)
        if not answered and self.engine.suspects.doubtful:
            self.engine.watch.wake()


def fingerprint(path: str, payload: dict[str, Any], body: bytes) -> str:
    """Return a hash of everything but the options, which come last: another seed doesn't make another request.

    body: the payload as it is sent. The options are cut off by their length: a search could find a text like them.
    """
    options = encode(payload["options"])
    return hashlib.sha256(path.encode() + body[: -len(options + b"}")]).hexdigest()
