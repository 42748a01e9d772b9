"""A target whose answer follows from the number at the start of a prompt, as the scenarios number them."""

import json
import re
import ssl
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from testbed.stand_in import MODEL
from tests.support.stub import HANG, Answer, Request, stub

GOOD = {"response": "Because.", "model": MODEL, "finish_reason": "stop", "done": True, "done_reason": "stop"}
BUSY = (503, {"Retry-After": "0.01"}, {"error": {"code": "saturated"}})
CUT = (200, {"Content-Length": "999"}, GOOD)


@dataclass
class Answers:
    """What is answered to question N: the item N of `turns`, round and round, by how often N was asked before."""

    turns: Sequence[Sequence[Answer]] = (((200, {}, GOOD),),)
    model: str = MODEL
    url: str = ""
    prompts: list[str] = field(default_factory=list)  # without those that warm up
    streams: list[str] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    authorizations: Counter[str | None] = field(default_factory=Counter)  # of all requests
    asked: Event = field(default_factory=Event)
    hold_warm_up: bool = False  # what warms up gets no answer

    def answer(self, request: Request) -> Answer:
        """Return the answer to a question, or which model there is."""
        self.authorizations[request.headers.get("Authorization")] += 1
        if request.method == "GET":
            return 200, {}, {"data": [{"id": self.model}]}
        body = json.loads(request.body)
        prompt = body["prompt"]
        self.paths[request.path] += 1
        if body.get("stream"):
            self.streams.append(prompt)
        number = re.match(r"\d+", prompt)
        if not number:
            return HANG if self.hold_warm_up else (200, {}, GOOD | {"model": self.model})
        self.asked.set()
        self.prompts.append(prompt)
        tries = self.turns[int(number[0]) % len(self.turns)]
        return tries[min(self.prompts.count(prompt), len(tries)) - 1]


@contextmanager
def answering(*turns: Sequence[Answer], tls: ssl.SSLContext | None = None) -> Iterator[Answers]:
    """Serve them on a free port until the block ends; without turns every answer is a good one."""
    answers = Answers(turns) if turns else Answers()
    with stub(answers.answer, tls=tls) as server:
        answers.url = server.url
        yield answers
