"""One request's answer: its place in the queue, its slot, its exchange with the engine, each released exactly once."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from service.admission import Refused, Ticket
from service.call import LOOK, Call
from service.engine_errors import EngineDied, upstream_error
from service.errors import ClientGone, KillsEngine, QuotaExceeded, Saturated, ServiceError
from service.gateway import Caller, Gateway
from service.metrics import QUOTA
from service.ollama import UNSHIFTED
from service.repeats import Repeats
from service.reply import Reply
from service.request_log import RELEASE_HEADER
from service.settings import Role
from service.system_role import without_system

QUEUED_HEADERS = ("X-Proxy-Queued-Ms", "X-Queued-Ms")
DURATIONS = ("load_duration", "prompt_eval_duration", "eval_duration")  # nanoseconds, in an answer's last line
T = TypeVar("T")
REFUSALS = {
    "queue_full": "every slot is busy and the queue is full",
    "wait_too_long": "every slot is busy and the wait would be too long",
    "queue_timeout": "no slot became free in time",
}


Message = dict[str, Any]  # as Ollama has it: {"content", "thinking"?, "tool_calls"?}
Fit = Callable[["Generation", Iterable[Message]], Iterator[Message]]


@dataclass
class Generation:
    """The answer to one request, from its place in the queue to the last token. close() may be called twice."""

    gateway: Gateway
    caller: Caller
    fit: Fit | None = None
    completed: bool = False
    closed: bool = False
    durations: dict[str, int] = field(default_factory=dict)  # DURATIONS as reported by the engine, once it is complete
    call: Call = field(init=False, repr=False)  # set by open()
    _cleanup: ExitStack = field(default_factory=ExitStack)
    busy_slots: float | None = None  # of the pod, on average during the answer, once it is complete
    _ticket: Ticket | None = None
    _queued_ms: float = 0.0
    _granted: float | None = None  # when it got its slot, by time.monotonic()
    _pieces: Iterator[Message] = field(init=False, repr=False)  # the engine's, after `_first`
    _repeats: Repeats = field(init=False, repr=False)
    _first: Message = field(init=False, repr=False)
    _unfinished: int = 0  # pieces of an answer that isn't complete yet
    _last_token: float = 0.0  # its arrival, by time.monotonic()

    def open(self, path: str, payload: dict[str, Any]) -> None:
        """Pass the quota and the queue; after that, `call` can ask the engine."""
        gateway, caller = self.gateway, self.caller
        caller.record.model = gateway.settings.model
        self._ticket = ticket = self._admit()
        self._cleanup.callback(lambda: ticket.release(completed=self.completed and not self.call.delayed))
        self._await_slot(ticket)
        deadline = time.monotonic() + gateway.settings.answer_timeout
        self.call = Call(gateway.engine, path, payload, caller.client, deadline, caller.headers, caller.deaths)
        self._cleanup.callback(lambda: self.call.close(answered=self.completed))  # runs before the slot is released

    def _admit(self) -> Ticket:
        admission, metrics, caller = self.gateway.admission, self.gateway.metrics, self.caller
        try:
            if caller.key is not None:
                self._cleanup.callback(caller.key.acquire(admission.service_time or 1.0))
            caller.client.settled()
            return admission.enter(caller.priority, caller.key.name if caller.key else None)
        except QuotaExceeded:
            metrics.refused[QUOTA].inc()
            raise
        except Refused as refused:
            raise self._saturated(refused) from None

    def _saturated(self, refused: Refused) -> Saturated:
        self.gateway.metrics.refused[refused.reason].inc()
        return Saturated(REFUSALS[refused.reason], hint="see Retry-After", retry_after=refused.retry_after)

    def _await_slot(self, ticket: Ticket) -> None:
        try:
            while not ticket.wait(LOOK):
                if self.caller.client.gone():
                    raise ClientGone
        except Refused as refused:
            raise self._saturated(refused) from None
        self._queued_ms = ticket.queued_for * 1000
        self._granted = time.monotonic()
        self.caller.record.queued_ms = round(self._queued_ms, 3)
        self.gateway.metrics.admitted.inc()
        self.gateway.metrics.queue_wait.observe(ticket.queued_for)

    def start(self, path: str, payload: dict[str, Any]) -> None:
        """Open the stream and read its first piece, so that an error before it still gets its HTTP status."""
        self.open(path, payload)
        self._begin()

    def ask(self, read: Callable[[Reply], T]) -> T:
        """Return what `read` makes of the engine's reply; note its release, and the wait behind this process."""
        record = self.caller.record
        try:
            result = self.call.ask(read)
        except ServiceError as error:
            record.pod_release = error.release
            raise
        behind = sum(map(self.call.number, QUEUED_HEADERS))  # for a front: in HAProxy's queue and in the pod's
        record.queued_ms = round(self._queued_ms + behind, 3)
        record.pod_release = self.call.header(RELEASE_HEADER)
        return result

    def _begin(self) -> None:
        self._first = self.ask(self._read_first)
        self._last_token = time.monotonic()
        record = self.caller.record
        if record.first_token_ms is None:
            record.first_token_ms = record.elapsed_ms()
            self.gateway.metrics.first_token.observe(record.first_token_ms / 1000)

    def _read_first(self, reply: Reply) -> dict[str, Any]:
        self._pieces, self._repeats, self._unfinished = reply.lines(), Repeats(), 0
        return self._next()

    def _next(self) -> dict[str, Any]:
        for piece in self._pieces:
            self._repeats.see(piece)
            self._unfinished += 1
            return piece
        if last := self._repeats.end():
            return last
        raise upstream_error(EOFError("the stream ended without done"))

    def whole(self) -> list[Message]:
        """Return all of the model's messages at once; see __iter__()."""
        return list(self.fit(self, self._reread())) if self.fit else self.read()

    def read(self) -> list[Message]:
        """Return all of Ollama's messages at once; if the engine dies, the caller only waits longer."""
        while True:
            try:
                return list(self._messages())
            except EngineDied as died:
                self.call.survive(died)
                self._begin()

    def _reread(self) -> Iterator[Message]:
        yield from self.read()

    def __iter__(self) -> Iterator[Message]:
        """Yield the model's messages as they come; afterwards, the record has the usage."""
        return self.fit(self, self._streamed()) if self.fit else self._streamed()

    def _streamed(self) -> Iterator[Message]:
        try:
            yield from self._messages()
        except EngineDied as died:
            self.call.judge(died)  # raises another error if this request is known to kill the engine
            raise

    def again(self, more: list[Message], **fields: Any) -> None:
        """Continue the conversation with `more`, in the same slot and with the same deadline, and begin to read.

        fields: replace those of the request to the engine; None removes one.
        """
        self.completed, before = False, self.call.payload
        fields["messages"] = [*before["messages"], *more]
        self.go_on({name: value for name, value in {**before, **fields}.items() if value is not None})
        self._begin()

    def go_on(self, payload: dict[str, Any]) -> None:
        """Make `call` another request to the engine, in the same slot and with the same deadline."""
        before = self.call
        before.close(answered=True)
        self.call = Call(before.engine, before.path, payload, before.client, before.deadline, before.headers)

    @property
    def cut(self) -> bool:
        """Say whether the answer ended at its token limit."""
        return self.caller.record.finish_reason == "length"

    def _messages(self) -> Iterator[dict[str, Any]]:
        piece = self._first
        while not piece["done"]:
            yield piece["message"]
            piece = self._next()
            self._observe_token()
        self._finish(piece)
        yield piece["message"]

    def _observe_token(self) -> None:
        now = time.monotonic()
        self.gateway.metrics.inter_token.observe(now - self._last_token)
        self._last_token = now

    def _finish(self, piece: dict[str, Any]) -> None:
        record, metrics = self.caller.record, self.gateway.metrics
        for name in DURATIONS:
            if isinstance(took := piece.get(name), int):
                self.durations[name] = self.durations.get(name, 0) + took
        self.busy_slots = self._busy_slots(piece)
        record.finish_reason = "length" if piece.get("done_reason") == "length" else "stop"
        # Ollama omits prompt_eval_count when it is 0.
        prompt, completion = piece.get("prompt_eval_count", 0), piece.get("eval_count", 0)
        record.prompt_tokens = (record.prompt_tokens or 0) + prompt  # including those of discarded answers
        record.completion_tokens = (record.completion_tokens or 0) + completion
        metrics.prompt_tokens.inc(prompt)
        metrics.completion_tokens.inc(completion)
        self.completed, self._unfinished = True, 0

    def _busy_slots(self, piece: dict[str, Any]) -> float | None:
        """Return what the admission of the process with the slots counts; a pod tells its front."""
        if self.gateway.settings.role is not Role.FRONT:
            return round(self._ticket.busy_slots, 2) if self._ticket else None
        told = piece.get("busy_slots")  # missing from pods of older releases
        return told if isinstance(told, int | float) else None

    @property
    def usage(self) -> dict[str, int]:
        """Return the tokens used, once the answer is complete."""
        record = self.caller.record
        return {"prompt_tokens": record.prompt_tokens or 0, "completion_tokens": record.completion_tokens or 0}

    @property
    def timings(self) -> dict[str, float | None]:
        """Return the milliseconds since arrival: in the queue, to the first token, until now; and the busy slots."""
        record = self.caller.record
        return {
            "queued_ms": record.queued_ms,
            "first_token_ms": record.first_token_ms,
            "total_ms": record.elapsed_ms(),
            "busy_slots": self.busy_slots,
        }

    def close(self, error: BaseException | None = None) -> None:
        """Cancel Ollama's work if it still runs, and release the slot and the quota.

        An answer that is closed early without an error was closed because its client disconnected.
        """
        if self.closed:
            return
        self.closed = True
        record = self.caller.record
        if isinstance(error, KillsEngine):
            self.call.convict()
        if isinstance(error, ServiceError):
            record.error = error.code
        elif error is not None and not isinstance(error, ClientGone):
            record.error = "internal_error"
        elif not self.completed:
            self.gateway.metrics.cancelled.inc()
            record.error = "client_gone"
        self._cleanup.close()
        if self.caller.key is not None:
            self.caller.key.use((record.prompt_tokens or 0) + (record.completion_tokens or 0) + self._unfinished)
        if self._granted is not None and self.gateway.settings.role is not Role.FRONT:  # which has no slots
            record.slot_ms = round((time.monotonic() - self._granted) * 1000, 3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.close(error)


def generate(
    gateway: Gateway, caller: Caller, chat: dict[str, Any], options: dict[str, Any], fit: Fit | None = None
) -> Generation:
    """Run a chat through the model and return its answer once the first piece is there.

    chat: messages, tools and so on; options: sampling; both as in Ollama's /api/chat. fit: checks the answer's
    messages, and may have them regenerated. Raises a ServiceError or ClientGone; then everything has been released.
    """
    gateway.need_chat()
    if not gateway.watch.system_role:
        chat = {**chat, "messages": without_system(chat["messages"])}
    options = {"num_predict": gateway.settings.max_tokens, **options}
    fixed = {"stream": True, "think": False, "truncate": False, **UNSHIFTED}
    answer = Generation(gateway, caller, fit)
    try:
        answer.start(gateway.ollama.chat_path, gateway.ollama.payload(options, **{**fixed, **chat}))
    except BaseException as error:
        answer.close(error)
        raise
    return answer
