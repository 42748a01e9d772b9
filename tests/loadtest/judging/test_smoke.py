"""The smoke under a real k6, against the gateway and against servers that answer wrongly."""

import asyncio
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command_line import InputError
from config import DEV
from loadtest.address import read_address
from loadtest.judging import smoke
from loadtest.judging.judge import FEWEST
from loadtest.judging.record import read_questions, read_records
from loadtest.judging.smoke import Ending, Judgement, Smoke
from service.keys import digest
from testbed import ROOT
from testbed.fetching import fetch
from testbed.gateway import Served, serve
from testbed.stand_in import MODEL, StandIn
from tests.support.api_keys import entry, write
from tests.support.questions import every_answer
from tests.support.several_models import TWO_MODELS
from tests.support.stub import HANG, Answer, Request, in_turn, stub

MODELS = {"data": [{"id": MODEL}], "models": [{"name": MODEL, "capabilities": ["completion"]}]}


def judged(url: str, model: str = MODEL, **more: Any) -> Judgement:
    """Judge what answers at a URL, in as little time as it takes."""
    plan = Smoke(target=read_address(url), shapes={model: ""}, **{"at_least": 0.5, "at_most": 30, **more})
    return asyncio.run(smoke.run(plan, {}))


def refused(judgement: Judgement) -> int:
    return sum(judge.refused for judge in judgement.judges.values())


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    """A stand-in for Ollama that answers rightly; a test may patch it."""
    server = StandIn(tokens=every_answer()).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def served(k6: str, engine: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(engine.url, tmp_path_factory.mktemp("gateway") / "log") as gateway:
        yield gateway


def test_a_good_release_passes_and_the_command_says_how_sure_that_is(served: Served, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.judging", "--target", served.url, "--model", MODEL, "--at-least", "1"]
    command += ["--report", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = dict(line.split("=", 1) for line in (tmp_path / "outputs").read_text().splitlines())
    assert (outputs["verdict"], list(read_records(outputs["record"]))) == ("passed", [MODEL])
    first, failures, wrong, speed = (tmp_path / "summary.md").read_text().splitlines()
    assert done.stdout.splitlines() == [first, failures, wrong, speed]
    assert first.startswith("- Passed, by ")
    assert failures.endswith(" answers failed: that rules out 5 % (error rate 2 %).")
    assert wrong.endswith(" answers were wrong: that rules out 70 % (error rate 2 %).")
    assert "Speed was not judged" in speed
    assert outputs["judgement"] == " ".join(line.removeprefix("- ") for line in (first, failures, wrong, speed))
    assert len(json.loads((tmp_path / "report.json").read_text())["answers"][MODEL]) >= 85


def test_every_question_is_asked_half_of_them_streamed_and_no_prompt_begins_like_another(k6: str) -> None:
    models: Answer = (200, {}, MODELS)
    with stub(lambda request: models if request.method == "GET" else GOOD) as server:
        assert judged(server.url).ending is Ending.PASSED
        bodies = [json.loads(request.body) for request in server.requests if request.method == "POST"]
    beginnings, asked = zip(*(body["prompt"].split("\n\n") for body in bodies), strict=True)
    assert len(set(beginnings)) == len(bodies)
    assert set(asked) == {each["ask"] for each in read_questions()}
    assert sum(body["stream"] for body in bodies) == pytest.approx(len(bodies) / 2, abs=2)
    assert {(body["model"], body["temperature"]) for body in bodies} == {(MODEL, 0)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": ["banana"]}, "answers were wrong: a good release has 30 %"),
        ({"tokens": []}, "× empty"),
        ({"tokens": [" ", "\n"]}, "× empty"),
        ({"error": (500, "broken")}, "× status 502"),
        ({"end_at": 2}, "× incomplete"),
    ],
)
def test_a_bad_release_is_bad_and_the_sentence_says_why(
    served: Served, engine: StandIn, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(engine, name, value)
    judgement = judged(served.url)
    assert judgement.ending is Ending.BAD, judgement.text
    assert said in judgement.text
    assert "(error rate 1.25 %)" in judgement.text


def test_a_release_that_hangs_is_bad(served: Served, engine: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "hold_at", 0)
    judgement = judged(served.url, timeout=0.3)
    assert (judgement.ending, "× request timeout" in judgement.text) == (Ending.BAD, True), judgement.text


def judged_slow(seconds_an_answer: float) -> Judgement:
    """Judge a release whose answers are good and take so long, in half a second and what it gets beyond."""

    def slowly(request: Request) -> Answer:
        if request.method == "GET":
            return 200, {}, MODELS
        time.sleep(seconds_an_answer)
        return GOOD

    with stub(slowly) as server:
        return judged(server.url, at_least=0.1, at_most=0.5)


def test_a_release_that_answers_slowly_is_asked_until_it_has_given_enough(k6: str) -> None:
    judgement = judged_slow(0.6)
    assert judgement.ending is Ending.PASSED, judgement.text
    assert [len(judge.answers) for judge in judgement.judges.values()] == [FEWEST]


def test_a_release_that_has_not_given_enough_even_then_is_bad(k6: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "ANSWER_SECONDS", 1.5)
    judgement = judged_slow(1.0)
    assert judgement.ending is Ending.BAD, judgement.text
    assert "It gave too few answers, and wasn't busy." in judgement.text


def test_a_release_that_serves_another_model_is_bad(served: Served) -> None:
    judgement = judged(served.url, "moondream")
    assert judgement.ending is Ending.BAD
    assert f"It couldn't be asked: {served.url} serves {MODEL}, not moondream." in judgement.text


@pytest.mark.parametrize("status", [502, 503])
def test_a_load_balancer_that_has_no_targets_yet_is_waited_for(k6: str, status: int) -> None:
    balancer: Answer = (status, {"Server": "awselb/2.0"}, {})
    models: Answer = (200, {}, MODELS)
    left = [balancer, balancer, models]
    with stub(lambda request: in_turn(left) if request.method == "GET" else GOOD) as server:
        assert judged(server.url, patience=30).ending is Ending.PASSED


def test_a_target_that_never_comes_is_bad_when_patience_is_over(k6: str) -> None:
    started = time.monotonic()
    judgement = judged("http://127.0.0.1:9", patience=3)
    assert judgement.ending is Ending.BAD
    assert "It couldn't be asked: http://127.0.0.1:9/v1/models: status 0" in judgement.text
    assert time.monotonic() - started > 3


def test_a_release_that_answers_wrongly_is_not_waited_for(k6: str) -> None:
    with stub(lambda request: (500, {}, {"error": {"code": "internal_error"}})) as server:
        assert "status 500" in judged(server.url, patience=100).text


def test_an_api_key_is_sent(k6: str, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.tokens = every_answer()
    keys = write(tmp_path / "keys", f'[smoke]\nsha256 = "{digest("secret")}"\nconcurrent = 4\n')
    with serve(stand_in.url, tmp_path / "log", api_keys_file=keys) as gateway:
        assert "status 401" in judged(gateway.url).text
        judgement = judged(gateway.url, api_key="secret")
    assert judgement.ending is Ending.PASSED, judgement.text


def test_a_smoke_test_gets_its_answers_at_once_while_others_flood_the_service(
    k6: str, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.tokens, stand_in.first_delay = every_answer(), 0.05
    keys = write(tmp_path / "keys", entry("smoke", "secret", priorities=["smoke"]) + entry("public", "public"))
    ended, turned_away = threading.Event(), threading.Event()

    def flood(url: str) -> None:
        while not ended.is_set():
            reply = fetch(f"{url}/generate", {"prompt": "x"}, {"Authorization": "Bearer public"})
            if reply.status == 503:
                turned_away.set()

    with (
        serve(stand_in.url, tmp_path / "log", api_keys_file=keys, slots=2, max_queue=4, queue_timeout=1) as gateway,
        ThreadPoolExecutor(16) as pool,
    ):
        public = [pool.submit(flood, gateway.url) for _ in range(16)]
        try:
            assert turned_away.wait(10)
            judgement = judged(gateway.url, api_key="secret", at_most=60)
        finally:
            ended.set()
    assert all(each.exception() is None for each in public)
    assert (judgement.ending, refused(judgement)) == (Ending.PASSED, 0), judgement.text


def test_an_address_may_have_credentials_which_are_not_printed(k6: str, tmp_path: Path) -> None:
    with canned(GOOD) as url:
        judgement = judged(url.replace("://", "://lovelace:p%40ss@") + "/v1/")
    assert judgement.ending is Ending.PASSED, judgement.text
    assert "lovelace" not in judgement.text


GOOD: tuple[int, dict[str, str], dict[str, Any]] = (
    200,
    {},
    {
        "response": "".join(every_answer()),
        "done": True,
        "model": MODEL,
        "finish_reason": "stop",
        "usage": {"completion_tokens": 4},
    },
)


@contextmanager
def canned(*answers: Answer) -> Iterator[str]:
    """Serve a gateway whose /generate gives these answers in turn, and then the last one for ever."""
    left = list(answers)
    models: Answer = (200, {}, MODELS)
    with stub(lambda request: models if request.method == "GET" else in_turn(left)) as server:
        yield server.url


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_that_says_when_to_come_back_is_no_failure(k6: str, status: int) -> None:
    refusal: Answer = (status, {"Retry-After": "1"}, {"error": {"code": "saturated"}})
    with canned(refusal, refusal, GOOD) as url:
        judgement = judged(url)
    assert (judgement.ending, refused(judgement)) == (Ending.PASSED, 2), judgement.text
    assert "2 times a question was refused as others had the slots, and asked again." in judgement.text


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "soon"}])
def test_a_refusal_that_does_not_is_one(k6: str, headers: dict[str, str]) -> None:
    with canned((503, headers, {"error": {"code": "saturated"}})) as url:
        judgement = judged(url)
    assert judgement.ending is Ending.BAD
    assert "× status 503" in judgement.text


BUSY: Answer = (503, {"Retry-After": "0.1"}, {"error": {"code": "saturated"}})


@pytest.mark.parametrize("refusal", [BUSY, (429, {"Retry-After": "0.1"}, {"error": {"code": "quota_exceeded"}})])
def test_a_release_that_is_busy_all_the_time_is_not_judged(k6: str, refusal: Answer) -> None:
    with canned(refusal) as url:
        judgement = judged(url, at_most=2)
    assert (judgement.ending, refused(judgement) > 8) == (Ending.BUSY, True), judgement.text
    assert judgement.text.startswith("Not judged: busy, by 0 answers in 2 s.")


def test_a_release_that_is_too_busy_to_say_its_model_is_not_judged(k6: str) -> None:
    with stub(lambda request: BUSY) as server:
        judgement = judged(server.url, at_most=2)
    assert judgement.ending is Ending.BUSY, judgement.text


def test_a_busy_release_whose_answers_are_bad_is_bad(k6: str) -> None:
    bad: Answer = (200, {}, GOOD[2] | {"response": ""})
    with canned(bad, bad, BUSY) as url:
        assert judged(url, at_most=2).ending is Ending.BAD


def test_a_busy_release_is_not_bad_for_a_question_that_the_model_cannot_answer(k6: str) -> None:
    wrong: Answer = (200, {}, GOOD[2] | {"response": "banana"})
    with canned(wrong, BUSY) as url:
        assert judged(url, at_most=2).ending is Ending.BUSY


RELEASES = {"": "fronts-2", MODEL: "pods-2"}
NEW, OLD = ({"Sluice-Release": f"fronts-2 {pods}"} for pods in ("pods-2", "pods-1"))


def test_what_the_release_before_answers_is_not_held_against_the_new_one(k6: str) -> None:
    wrong = GOOD[2] | {"response": "banana"}
    with canned(*[(200, OLD, wrong)] * 20, (200, NEW, GOOD[2])) as url:
        judgement = judged(url, releases=RELEASES)
    assert judgement.ending is Ending.PASSED, judgement.text
    assert "20 answers were another release's, and don't count. 0 of " in judgement.text


def test_a_release_for_which_another_one_answers_is_not_judged(k6: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "ANSWER_SECONDS", 1)
    with canned((200, OLD, GOOD[2])) as url:
        judgement = judged(url, releases=RELEASES, at_most=1)
    assert judgement.ending is Ending.ELSEWHERE, judgement.text
    assert judgement.text.startswith("Not judged: another release answered, by 0 answers in 2 s.")


def test_the_front_of_another_release_is_waited_for(k6: str) -> None:
    """It may not know a model that the release adds."""
    before: Answer = (200, {"Sluice-Release": "fronts-1"}, {"data": [], "models": []})
    after: Answer = (200, {"Sluice-Release": "fronts-2"}, MODELS)
    left = [before, before, after]
    with stub(lambda request: in_turn(left) if request.method == "GET" else (200, NEW, GOOD[2])) as server:
        judgement = judged(server.url, releases=RELEASES)
    assert judgement.ending is Ending.PASSED, judgement.text
    assert [judge.elsewhere for judge in judgement.judges.values()] == [2]


@pytest.mark.parametrize("body", [b"null", b"[1]", b'"text"', b'{"response": 7, "usage": null}'])
def test_an_answer_that_is_none_is_a_failure(k6: str, body: bytes) -> None:
    with canned((200, {}, body)) as url:
        judgement = judged(url)
    assert judgement.ending is Ending.BAD, judgement.text
    assert "2 of 2 answers failed" in judgement.text


def test_an_answer_says_nothing_of_itself_in_its_timings(k6: str) -> None:
    timings = {"outcome": "right", "release": "fronts-2 pods-2", "why": "x" * 100_000}
    with canned((200, NEW, GOOD[2] | {"response": "banana", "timings": timings})) as url:
        judgement = judged(url, releases=RELEASES)
    assert judgement.ending is Ending.BAD, judgement.text
    assert "answers were wrong" in judgement.text


def test_the_releases_of_all_models_and_of_the_fronts_must_be_known() -> None:
    for releases, missing in (({"": "a"}, MODEL), ({MODEL: "a"}, "the fronts")):
        with pytest.raises(InputError, match=f"--releases doesn't say which release {missing} should be of"):
            Smoke(target=read_address("http://x"), shapes={MODEL: ""}, releases=releases)


def test_a_release_that_fails_now_and_then_passes_and_what_is_not_ruled_out_is_said(k6: str) -> None:
    failure: Answer = (500, {}, {"error": {"code": "internal_error"}})
    with canned(*[GOOD] * 20, failure, *[GOOD] * (FEWEST + 1), HANG) as url:
        judgement = judged(url, at_most=3)
    assert judgement.ending is Ending.PASSED
    assert "1 of 30 answers failed (1 × status 500): up to 14.9 % can't be ruled out." in judgement.text


def test_a_release_without_an_engine_is_bad(k6: str) -> None:
    with canned((503, {"Retry-After": "0.01"}, {"error": {"code": "engine_unavailable"}})) as url:
        judgement = judged(url)
    assert (judgement.ending, refused(judgement)) == (Ending.BAD, 0)
    assert "2 × status 503" in judgement.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "another"}, "model another"),
        ({"model": f"{MODEL}:latest"}, None),
        ({"finish_reason": None}, "incomplete"),
        ({"usage": {"completion_tokens": 0}}, "empty"),
    ],
)
def test_each_part_of_an_answer_is_checked(k6: str, change: dict[str, Any], why: str | None) -> None:
    with canned((200, {}, GOOD[2] | change)) as url:
        judgement = judged(url)
    assert judgement.ending is (Ending.BAD if why else Ending.PASSED), judgement.text
    assert why is None or f"2 × {why}" in judgement.text


def test_each_of_several_models_is_asked_and_one_that_is_bad_makes_the_release_bad(k6: str) -> None:
    listed = [{"name": f"{name}:latest", "capabilities": ["completion"]} for name in ("one", "two")]

    def answer(request: Any) -> Answer:
        if request.method == "GET":
            return 200, {}, {"data": [{"id": "one"}, {"id": "two"}], "models": listed}
        model = json.loads(request.body)["model"]
        return 200, {}, GOOD[2] | {"model": model, **({"response": "banana"} if model == bad else {})}

    with stub(answer) as server:
        plan = Smoke(target=read_address(server.url), shapes={"one": "", "two": ""}, at_least=0.5, at_most=60)
        endings = dict[str, Judgement]()
        for bad in ("neither", "two"):
            endings[bad] = asyncio.run(smoke.run(plan, {}))
    assert endings["neither"].ending is Ending.PASSED, endings["neither"].text
    assert endings["two"].ending is Ending.BAD
    assert "one: 0 of " in endings["two"].text
    assert "two: 0 of " in endings["two"].text
    assert "(error rate 0.625 %)" in endings["two"].text


def embedding(right: bool, length: int = 2) -> Callable[[Request], Answer]:
    """Return a gateway of a model that can only embed: the vector of a text has the direction of its question."""
    questions = read_questions()
    directions = {each[text]: number for number, each in enumerate(questions) for text in ("ask", "example")}

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return 200, {}, MODELS | {"models": [{"name": MODEL, "capabilities": ["embedding"]}]}
        assert request.path == "/api/embed"
        places = [directions[text] if right else 0 for text in json.loads(request.body)["input"]]
        vectors = [[math.cos(place), math.sin(place)][:length] for place in places]
        return 200, {}, {"model": MODEL, "embeddings": vectors}

    return answer


@pytest.mark.parametrize(
    ("answer", "ending", "said"),
    [
        (embedding(right=True), Ending.PASSED, "answers were wrong: that rules out 70 %"),
        (embedding(right=False), Ending.BAD, "answers were wrong: a good release has 30 %"),
        (embedding(right=True, length=0), Ending.BAD, "2 × incomplete"),
    ],
)
def test_a_model_that_can_only_embed_is_asked_which_text_is_nearer(
    k6: str, answer: Callable[[Request], Answer], ending: Ending, said: str
) -> None:
    with stub(answer) as server:
        judgement = judged(server.url)
    assert (judgement.ending, said in judgement.text) == (ending, True), judgement.text


def test_what_a_model_can_do_is_waited_for(k6: str) -> None:
    known = embedding(right=True)
    unknown: Answer = (503, {"Retry-After": "1"}, {"error": {"code": "engine_unavailable"}})
    left = [unknown, MODELS | {"models": []}]

    def answer(request: Request) -> Answer:
        if request.path == "/api/tags" and left:
            told = left.pop()
            return told if isinstance(told, tuple) else (200, {}, told)
        return known(request)

    with stub(answer) as server:
        assert judged(server.url).ending is Ending.PASSED


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "x"], "--target"),
        (["--target", "localhost", "--model", "x"], "--target: 'localhost' is not an address"),
        (["--target", "http://localhost:9"], "--stage --model"),
        (["--target", "http://localhost:9", "--stage", "moon"], "--stage"),
        (["--target", "http://localhost:9", "--model", "x", "--at-least", "200"], "--at-least 200 must be less than"),
        (["--target", "http://localhost:9", "--stage", "dev"], "API_KEY is missing: dev lets nobody in without one"),
        (["--target", "http://localhost:9", "--model", "x", "--report", "/none"], "--report /none is no folder"),
    ],
)
def test_bad_input_is_a_sentence_and_no_verdict(arguments: list[str], reason: str) -> None:
    command = [sys.executable, "-m", "loadtest.judging", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sluice: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_has_no_pods_is_woken_before_it_is_judged(k6: str) -> None:
    asleep: Answer = (503, {"Retry-After": "0.1"}, {"error": {"code": "engine_unavailable"}})
    with canned(*[asleep] * 9, GOOD) as url:
        judgement = judged(url, may_sleep=[MODEL], wake=60)
    assert judgement.ending is Ending.PASSED, judgement.text
    assert "0 of " in judgement.text
    assert "answers failed" in judgement.text


def test_a_model_whose_pod_does_not_start_in_time_is_bad(k6: str) -> None:
    with canned((503, {"Retry-After": "0.1"}, {"error": {"code": "engine_unavailable"}})) as url:
        judgement = judged(url, may_sleep=[MODEL], wake=2)
    assert (judgement.ending, "× status 503" in judgement.text) == (Ending.BAD, True), judgement.text


def test_only_models_that_may_have_no_pods_are_woken() -> None:
    target = read_address("http://127.0.0.1:9")
    asked = Smoke.of(TWO_MODELS, target).environ()
    assert (asked["MODELS"], asked["MAY_SLEEP"]) == ("moondream all-minilm", "all-minilm")
    assert asked["WAKE"] == str(TWO_MODELS.start_timeout)
    assert (Smoke.of(DEV, target).environ()["MAY_SLEEP"], Smoke.of(DEV, target).environ()["WAKE"]) == ("", "0")
