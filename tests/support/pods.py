"""Pods behind HAProxy that say whose they are, and answer when they are told to."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Lock

from tests.support.stub import Answer, Request, Stub, stub


class NamedPod:
    """A server in place of a gateway: every answer has its name. It is ready whatever it does."""

    def __init__(self, name: str) -> None:
        self.name, self.running = name, 0
        self._free, self._counting = Event(), Lock()
        self._free.set()

    def serve(self, stack: ExitStack) -> "NamedPod":
        """Take requests for as long as the stack lasts."""
        self._server: Stub = stack.enter_context(stub(self._answer))
        return self

    @property
    def port(self) -> int:
        """Return the port of everything."""
        return self._server.server_port

    private_port = port

    @property
    def prompts(self) -> list[str]:
        """Return what it was asked, in turn."""
        bodies = [json.loads(request.body) for request in self._server.requests if request.path == "/engine/chat"]
        return [body["messages"][0]["content"] for body in bodies]

    def hold(self) -> None:
        """Answer no request until release()."""
        self._free.clear()

    def release(self) -> None:
        """Answer all requests, and all later ones."""
        self._free.set()

    def _answer(self, request: Request) -> Answer:
        if request.path != "/readyz":
            with self._counting:
                self.running += 1
            self._free.wait(60)
            with self._counting:
                self.running -= 1
        return 200, {}, {"pod": self.name}


@contextmanager
def named_pods(*names: str) -> Iterator[list[NamedPod]]:
    """Run a pod for each name until the block ends."""
    with ExitStack() as stack:
        pods = [NamedPod(name).serve(stack) for name in names]
        for pod in pods:
            stack.callback(pod.release)
        yield pods
