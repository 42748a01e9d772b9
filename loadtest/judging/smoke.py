"""The smoke: k6 asks a release its questions, and each answer is judged as it comes, until the verdict or the end."""

import asyncio
import os
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from command_line import InputError
from config import Stage
from loadtest.address import Address
from loadtest.judging.answers import Answer, read_answer
from loadtest.judging.judge import Judge, new_judges, together
from loadtest.judging.record import Records, write_records
from loadtest.judging.said import sentences
from loadtest.judging.sequential import Verdict
from loadtest.k6 import SCRIPTS, CannotRun, find_k6, read_entry

# Seconds for a question: far more than an answer of 32 tokens takes after the longest wait in a queue, and few enough
# that a release that answers nothing is found in time.
ANSWER_SECONDS = 60.0
ASKING = '{"asking":true}'  # what smoke.js logs before its first question


class Ending(StrEnum):
    """What came out. Nothing is known of the release if others had the slots, or another release answered."""

    PASSED = "passed"
    BAD = "bad"
    BUSY = "busy"
    ELSEWHERE = "elsewhere"


SAID = {
    Ending.PASSED: "Passed",
    Ending.BAD: "Bad",
    Ending.BUSY: "Not judged: busy",
    Ending.ELSEWHERE: "Not judged: another release answered",
}


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """What to ask, and for how long, in seconds.

    shapes: of the models' pods. releases: of models' pods and fronts, see new_judges(). may_sleep: the models that may
    have none, of which one must start within `wake`.
    timeout: a client's patience. patience: for a load balancer to be there. at_least: for which a good release is asked
    too; times don't count in its first half, while pods of the release before drain. at_most: until there is a verdict.
    Raises InputError.
    """

    target: Address
    shapes: Mapping[str, str]
    releases: Mapping[str, str] = field(default_factory=dict)
    may_sleep: Sequence[str] = ()
    wake: float = Stage.start_timeout
    timeout: float = ANSWER_SECONDS
    patience: float = 0
    at_least: float = Stage.smoke_at_least
    at_most: float = Stage.smoke_at_most
    api_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.at_least >= self.at_most:
            raise InputError(f"--at-least {self.at_least:g} must be less than --at-most {self.at_most:g}")
        if self.releases and (unknown := {"", *self.shapes} - self.releases.keys()):
            names = ", ".join(sorted(name or "the fronts" for name in unknown))
            raise InputError(f"--releases doesn't say which release {names} should be of")

    @classmethod
    def of(cls, stage: Stage, target: Address, **more: Any) -> Self:
        """Return the smoke of a stage; more: of the fields."""
        least, most = stage.smoke_at_least, stage.smoke_at_most
        fixed = {"timeout": stage.client_timeout, "at_least": least, "at_most": most}
        shapes = {view.model.name: view.shape for view in stage.each_model}
        may_sleep = [view.model.name for view in stage.each_model if view.min_replicas == 0]
        start = {"may_sleep": may_sleep, "wake": stage.start_timeout}
        return cls(target=target, shapes=shapes, **{**fixed, **start, **more})

    def environ(self) -> dict[str, str]:
        """Return the environment of smoke.js."""
        return {
            "TARGET": self.target.with_credentials,
            "MODELS": " ".join(self.shapes),
            "MAY_SLEEP": " ".join(self.may_sleep),
            "FRONTS": self.releases.get("", ""),
            "WAKE": f"{self.wake if self.may_sleep else 0:g}",
            "TIMEOUT": f"{min(self.timeout, ANSWER_SECONDS):g}",
            "PATIENCE": f"{self.patience:g}",
            "SECONDS": f"{self.at_most + 2 * ANSWER_SECONDS:g}",  # if nobody ends it
            "API_KEY": self.api_key,
        }


@dataclass(frozen=True)
class Judgement:
    """What came out of a smoke. reason: a sentence that says why nothing could be asked, or too little."""

    ending: Ending
    seconds: float
    judges: Mapping[str, Judge]
    reason: str = ""

    @property
    def sentences(self) -> list[str]:
        """Return what was found, the verdict first."""
        count = sum(len(judge.answers) for judge in self.judges.values())
        because = [self.reason] if self.reason else []
        return [f"{SAID[self.ending]}, by {count} answers in {self.seconds:.0f} s.", *because, *sentences(self.judges)]

    @property
    def text(self) -> str:
        """Return the same in a line."""
        return " ".join(self.sentences)

    @property
    def record(self) -> str:
        """Return what the next release is compared with, in a line of JSON."""
        return write_records({model: judge.record() for model, judge in self.judges.items()})


async def run(smoke: Smoke, live: Records) -> Judgement:
    """Ask and judge. live: the records of the release before. Raises CannotRun without k6, or where it breaks off."""
    judges = new_judges(smoke.shapes, live, smoke.releases)
    async with _k6(smoke) as process:
        k6 = _K6(process)
        async for answer in k6.answers(lambda: _time_to_ask(smoke, judges.values())):
            for judge in _concerned(answer, judges):
                judge.observe(answer, settled=k6.seconds >= smoke.at_least / 2)
            verdict = together(judges.values())
            if verdict is Verdict.BAD:
                return Judgement(Ending.BAD, k6.seconds, judges)
            if verdict is Verdict.GOOD and k6.seconds >= smoke.at_least:
                return Judgement(Ending.PASSED, k6.seconds, judges)
    return _at_the_end(k6, judges)


def _time_to_ask(smoke: Smoke, judges: Iterable[Judge]) -> float:
    """Return the seconds until there must be a verdict: those of an answer more where a model has given too few.

    A release that is slow, on a busy machine or by its model, isn't bad for that.
    """
    lacking = _lacking(judges)
    slow = lacking and not any(judge.refused for judge in lacking)
    return smoke.at_most + (ANSWER_SECONDS if slow else 0)


def _lacking(judges: Iterable[Judge]) -> list[Judge]:
    """Return those of whose models too little is known."""
    return [judge for judge in judges if not judge.enough]


def _concerned(answer: Answer, judges: Mapping[str, Judge]) -> list[Judge]:
    """Return whose answer it is: all models', where it came before any was asked."""
    if not answer.model:
        return list(judges.values())
    return [judges[answer.model]] if answer.model in judges else []


def _at_the_end(k6: "_K6", judges: Mapping[str, Judge]) -> Judgement:
    """Return what can be said now that the time is over, or k6 has ended by itself. Raises CannotRun."""
    if k6.code is not None and k6.asking:
        raise CannotRun(f"k6 ended with {k6.code}: {k6.error or 'it said nothing'}")
    if k6.code is not None:
        return Judgement(Ending.BAD, k6.seconds, judges, f"It couldn't be asked: {k6.error}.")
    lacking = _lacking(judges.values())
    if not lacking:
        return Judgement(Ending.PASSED, k6.seconds, judges)
    if any(judge.refused for judge in lacking):
        return Judgement(Ending.BUSY, k6.seconds, judges)
    if any(judge.elsewhere for judge in lacking):
        return Judgement(Ending.ELSEWHERE, k6.seconds, judges)
    return Judgement(Ending.BAD, k6.seconds, judges, "It gave too few answers, and wasn't busy.")


class _K6:
    """k6 while it asks.

    asking: it has found what it should ask. error: the last that it has logged. code: its exit code, if it has ended.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._log = process.stderr or asyncio.StreamReader()
        self._began: float | None = None
        self.asking, self.error = False, ""
        self.code: int | None = None

    @property
    def seconds(self) -> float:
        """Return how long it has asked, or been refused because others have the slots."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def answers(self, seconds: Callable[[], float]) -> AsyncIterator[Answer]:
        """Yield answers as they come, until the time is over or k6 has ended. seconds: returns how long it may ask."""
        while line := await self._line(seconds()):
            entry = read_entry(line)
            if entry.console and self._began is None:
                self._began = time.monotonic()
            if entry.error:
                self.error = entry.text
            elif entry.text == ASKING:
                self.asking = True
            elif entry.console and (answer := read_answer(entry.text)):
                yield answer

    async def _line(self, seconds: float) -> bytes:
        """Return the next line of its log, nothing at the end."""
        left = None if self._began is None else seconds - self.seconds
        try:
            line = await asyncio.wait_for(self._log.readline(), left)
        except TimeoutError:
            return b""
        if not line:
            self.code = await self._process.wait()
        return line


@asynccontextmanager
async def _k6(smoke: Smoke) -> AsyncIterator[Process]:
    """Run k6 until the block ends; its log comes on standard error."""
    command = [find_k6(), "run", "--quiet", "--no-usage-report", "--no-color", "--no-summary", "--address="]
    command += ["--log-format=json", str(SCRIPTS / "smoke.js")]
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | smoke.environ(), stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
