"""How much the naive system holds on this machine, and by how much the times of the ramp are scaled for it."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from launcher.console import Problem
from loadtest.k6 import SCRIPTS
from loadtest.loads import Endpoint
from loadtest.plan import TIMEOUT
from loadtest.real_ramp.systems import MODEL
from testbed.fetching import fetch

SECONDS, CLIENTS = 30.0, 3  # of the calibration; enough clients that the engine always has a next request
LEAST = 3  # answers to each client, however long they take
JSON = {"Content-Type": "application/json"}  # which Flask’s apps ask for
ANSWER_TIMEOUT = 300.0  # seconds; the first answer includes the loading of the model
# Of the ramp's 5, 10 and 15 users the naive system is to hold 10: their wait is then just the clients' patience.
HELD_USERS = 10


@dataclass(frozen=True)
class Calibration:
    """What the naive system did when it always had work. answers: in so many seconds."""

    answers: int
    seconds: float

    @property
    def seconds_an_answer(self) -> float:
        """Return the seconds of the whole machine that an answer takes."""
        return self.seconds / self.answers

    @property
    def time_scale(self) -> float:
        """Return the factor for the ramp's times: HELD_USERS who wait for each other wait as long as they will."""
        return HELD_USERS * self.seconds_an_answer / TIMEOUT


def calibrate(target: Endpoint, *, seconds: float = SECONDS) -> Calibration:
    """Ask the naive app for so many seconds or longer, a few questions at a time. Raises Problem."""
    ask(target, prompt(0))
    began = time.monotonic()

    def client(first: int) -> int:
        done = 0
        while done < LEAST or time.monotonic() - began < seconds:
            ask(target, prompt(first + CLIENTS * done))
            done += 1
        return done

    with ThreadPoolExecutor(CLIENTS) as pool:
        done = sum(pool.map(client, range(1, CLIENTS + 1)))
    return Calibration(done, time.monotonic() - began)


def ask(target: Endpoint, text: str) -> None:
    """Ask for one answer and read it. Raises Problem."""
    path, fields = ("/api/generate", {"model": MODEL, "stream": False}) if target.api == "ollama" else ("/generate", {})
    try:
        reply = fetch(target.url + path, {"prompt": text, **fields}, JSON, ANSWER_TIMEOUT)
    except OSError as error:
        raise Problem(f"the system ({target.api}) doesn't answer ({error}), so it can't be measured") from None
    if reply.status != 200:
        raise Problem(f"the system ({target.api}) answers with status {reply.status}, so it can't be measured")


def prompt(number: int) -> str:
    """Return a question like those of the ramp, and no one of them."""
    questions = json.loads((SCRIPTS / "prompts.json").read_text())["questions"]
    return f"Calibration {number}. {questions[number % len(questions)]} Answer in one sentence."
