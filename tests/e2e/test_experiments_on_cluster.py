import subprocess
import sys
from pathlib import Path

from loadtest.report import read
from local_cluster.kubectl import ROOT, environ
from tests.e2e.cluster import need_cluster


def test_far_too_much_is_refused_and_nothing_breaks(tmp_path: Path) -> None:
    need_cluster()
    options = ["--minutes", "0.4", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "loadtest.experiments", "endurance", "stress", *options]
    done = subprocess.run(command, cwd=ROOT, env=environ(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = read(tmp_path / "stress")
    counts = report["counts"]
    assert report["valid"]
    assert counts["answered"] > 5
    assert counts["error"] == counts["timeout"] == counts["bad_answer"] == 0
    assert {sample["ready"] for sample in report["samples"]} == {2}
