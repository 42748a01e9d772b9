"""A report's folder is reserved before anything is measured."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from command_line import InputError
from loadtest.reporting.reserve import reserved
from testbed.waiting import eventually


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with reserved(tmp_path / "new", "ramp") as folder:
        assert folder == tmp_path / "new" / "ramp"
    assert not folder.exists()
    folder.mkdir()
    (folder / "notes").write_text("mine")
    with reserved(tmp_path / "new", "ramp"):
        pass
    assert [each.name for each in folder.iterdir()] == ["notes"]


def test_a_report_that_was_written_stays_and_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    with reserved(tmp_path, "ramp") as folder:
        (folder / "report.json").write_text("first")
    said = f"^{folder} has a report, or a run under way: choose another --name or --out, or --replace it$"
    with pytest.raises(InputError, match=said), reserved(tmp_path, "ramp"):
        pass
    with pytest.raises(ZeroDivisionError), reserved(tmp_path, "ramp", replace=True):
        raise ZeroDivisionError  # before anything was written
    assert (folder / "report.json").read_text() == "first"
    with reserved(tmp_path, "ramp", replace=True):
        (folder / "report.json").write_text("second")
    assert (folder / "report.json").read_text() == "second"


def test_of_runs_that_start_at_once_one_gets_the_name(tmp_path: Path) -> None:
    start, outcomes = threading.Barrier(8), list[str]()

    def reserve() -> None:
        start.wait()
        try:
            with reserved(tmp_path, "ramp"):
                outcomes.append("reserved")
                eventually(lambda: len(outcomes) == 8)
        except InputError:
            outcomes.append("refused")

    with ThreadPoolExecutor(8) as pool:
        for run in [pool.submit(reserve) for _ in range(8)]:
            run.result(60)
    assert sorted(outcomes) == ["refused"] * 7 + ["reserved"]


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=f"^{tmp_path}/{out}/ramp can't be written: "),
        reserved(tmp_path / out, "ramp"),
    ):
        pass
