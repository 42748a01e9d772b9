import json
from pathlib import Path
from typing import Any

from loadtest.models.advice import advise
from loadtest.models.packages import PACKAGES
from loadtest.models.quality import Mark, scores
from loadtest.models.summary import blocks
from loadtest.models.variant import CHOICES, RANGES
from loadtest.reporting.document import markdown
from loadtest.reporting.folder import write
from testbed import ROOT

DOCS = ROOT / "docs/models.md"


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
        "command": "python -m loadtest.models small small@kv=q8_0 large 'meaning<model>' absent",
        "revision": "abc",
        "started": "2026-11-24T12:00:00+00:00",
        "seconds": 600,
        "load_average": [0.1, 1.5],
        "cpus": 2,
        "cpu": "A CPU",
        "machine": "x86_64",
        "memory_gib": 23.5,
        "ollama": "0.32.15",
        "real": "the models",
        "simulated": "nothing",
        "rounds": 5,
        "cost": {"stage": "dev", "node": "c7i.xlarge", "region": "eu-central-1"},
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
    folder = write(canned(), blocks(canned()), tmp_path)
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
    assert "Simulated: nothing." in text
    page = (folder / "report.html").read_text()
    assert page.count("<svg ") == 4
    assert "meaning&lt;model&gt;" in page
    assert "meaning<model>" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_disturbed_measurement_is_called_so() -> None:
    assert "Disturbed" not in markdown(blocks(canned()))
    loud = canned() | {"models": [*CANNED, entry("loud", right=1, speed=1, mib=100) | {"speed": LOUD}]}
    assert "**Disturbed**: other programs took CPU from loud (up to 72%), whose speeds are too low." in markdown(
        blocks(loud)
    )


def test_the_same_figures_give_the_same_page(tmp_path: Path) -> None:
    first, second = (write(canned(), blocks(canned()), tmp_path / name) / "report.html" for name in ("a", "b"))
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
