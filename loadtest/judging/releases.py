"""Releases whose faults are known, judged under load: a stand-in for Ollama, the gateway before it, and the smoke."""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from chaos.callers import ANSWERED, REFUSED, Load
from loadtest.address import Address
from loadtest.judging import smoke
from loadtest.judging.record import read_questions, read_records
from loadtest.judging.smoke import Ending, Smoke
from service.keys import digest
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL
from testbed.stand_in.answering import Answering
from testbed.stand_in.stepped import slowing

SLOTS = 4
# Of the pod that the stand-in is, in real time: tokens/s of one answer alone and of each of four, words/s of prompts.
ALONE, TOGETHER, PREFILL = 40.0, 20.0, 300.0
TOKENS = (8, 56)  # of an answer to other callers, from and to
WORDS = 8  # of their prompts, about
QUEUE_SECONDS = 8.0  # that they may wait
GOOD = "good"
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "wrong template": {"wrong": True},
    "30 % slower": {"slower": 1.3},
    "5 % empty answers": {"empty": 0.05},
    "5 % errors": {"errors": 0.05},
}
KEYS = {"smoke": 'priorities = ["smoke"]', "public": ""}


@dataclass(frozen=True)
class Release:
    """A release to judge: what is wrong with it, and others' load meanwhile, relative to what its pod can do."""

    kind: str
    load: float


@dataclass(frozen=True)
class Trial:
    """A release and what became of it.

    seconds: until its verdict, in real time. lost: requests of others that were neither answered nor told to come back.
    """

    release: Release
    ending: Ending
    seconds: float
    answers: int
    background: int  # others' requests
    lost: int
    said: str

    @property
    def bad(self) -> bool:
        """Say whether it would be taken back."""
        return self.ending is Ending.BAD


def releases(good: int, bad: int, loads: Sequence[float], seed: int) -> list[Release]:
    """Return releases in an order by chance: so many good ones, and so many bad ones of each kind in turn."""
    kinds = [GOOD] * good + list(islice(cycle(FAULTS), bad))
    chance = random.Random(seed)  # noqa: S311
    chance.shuffle(kinds)
    by_kind = {kind: cycle(chance.sample(loads, len(loads))) for kind in dict.fromkeys(kinds)}
    return [Release(kind, next(by_kind[kind])) for kind in kinds]


@dataclass
class Deployment:
    """A gateway in front of a stand-in, which is every release in turn. scale: of all times."""

    gateway: Served
    engine: Answering
    scale: float
    record: str = ""  # of the live release, as its tag has it

    def judge(self, release: Release) -> Trial:
        """Have the stand-in be a release, and judge it; one that passes is the live one from then on."""
        fault = FAULTS.get(release.kind, {})
        for name, value in ({"wrong": False, "slower": 1.0, "empty": 0.0, "errors": 0.0} | dict(fault)).items():
            setattr(self.engine, name, value)
        headers = {"Authorization": "Bearer public"}
        with Load(self.gateway.url, release.load * capacity(self.scale), question=_question, headers=headers) as load:
            judgement = asyncio.run(smoke.run(self._smoke(), read_records(self.record)))
        if judgement.ending is Ending.PASSED:
            self.record = judgement.record
        lost = [each for each in load.outcomes if each.kind not in (ANSWERED, REFUSED)]
        answers = sum(len(judge.answers) for judge in judgement.judges.values())
        seconds = judgement.seconds / self.scale
        return Trial(release, judgement.ending, seconds, answers, len(load.outcomes), len(lost), judgement.text)

    def _smoke(self) -> Smoke:
        return Smoke(
            target=Address(self.gateway.url),
            shapes={MODEL: "a stand-in"},
            api_key="smoke",
            at_least=Smoke.at_least * self.scale,
            at_most=Smoke.at_most * self.scale,
        )


@contextmanager
def deployment(folder: Path, *, scale: float, seed: int) -> Iterator[Deployment]:
    """Run a gateway and its engine until the block ends."""
    folder.mkdir()
    keys = folder / "keys.toml"
    keys.write_text("".join(f'[{name}]\nsha256 = "{digest(name)}"\n{more}\n' for name, more in KEYS.items()))
    answers = {each["ask"]: each["example"] for each in read_questions()}
    speeds = slowing(ALONE / scale, SLOTS, TOGETHER / scale)
    engine = Answering(
        prefill=PREFILL / scale,
        seconds_a_token=[*speeds, *speeds[-1:] * SLOTS],  # a caller that leaves frees its slot before the engine knows
        answers=answers,
        chance=random.Random(seed),  # noqa: S311
    )
    settings = {"slots": SLOTS, "queue_timeout": QUEUE_SECONDS * scale, "api_keys_file": keys}
    with ExitStack() as stack:
        engine.start()
        stack.callback(engine.stop)
        gateway = stack.enter_context(serve(engine.url, folder / "log", **settings))
        yield Deployment(gateway, engine, scale)


def capacity(scale: float) -> float:
    """Return the answers/s to others that the pod can give at most."""
    tokens = sum(TOKENS) / 2
    return SLOTS / (tokens / TOGETHER + WORDS / PREFILL) / scale


def _question(number: int) -> dict[str, Any]:
    low, high = TOKENS
    length = low + number * 37 % (high - low + 1)  # mixed, and the same in every run
    return {"prompt": f"Caller {number} says something of its own.", "stream": bool(number % 2), "max_tokens": length}
