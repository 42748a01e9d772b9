"""The files of a judgement: for later jobs of the workflow, for people, and every answer for whoever doubts it."""

import json
from dataclasses import astuple
from pathlib import Path

from loadtest.judging.smoke import Judgement


def write(judgement: Judgement, folder: Path) -> None:
    """Write outputs (as GITHUB_OUTPUT has them, a line each), summary.md and report.json."""
    text = judgement.text
    outputs = {"verdict": judgement.ending, "judgement": text, "record": judgement.record}
    (folder / "outputs").write_text("".join(f"{name}={value}\n" for name, value in outputs.items()))
    (folder / "summary.md").write_text("".join(f"- {each}\n" for each in judgement.sentences))
    answers = {model: [astuple(each) for each in judge.answers] for model, judge in judgement.judges.items()}
    report = {"verdict": judgement.ending, "seconds": round(judgement.seconds, 1), "judgement": text}
    (folder / "report.json").write_text(json.dumps({**report, "answers": answers}, indent=1))
