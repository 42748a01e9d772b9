"""A report's folder is reserved before anything is measured."""

import threading
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from command_line import InputError
from loadtest.reporting.reserve import reserved
from testbed.waiting import eventually


def options(out: Path, name: str | None = None, *, replace: bool = False) -> Namespace:
    return Namespace(out=out, name=name, replace=replace)


def write(folder: Path, text: str) -> None:
    (folder / "report.json").write_text(text)


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with reserved(options(tmp_path / "new"), "ramp") as folder:
        assert folder == tmp_path / "new" / "ramp"
    assert not folder.exists()
    folder.mkdir()
    (folder / "notes").write_text("mine")
    with reserved(options(tmp_path / "new"), "ramp"):
        pass
    assert [each.name for each in folder.iterdir()] == ["notes"]


def test_a_name_that_was_asked_for_is_refused_where_it_has_a_report(tmp_path: Path) -> None:
    with reserved(options(tmp_path, "before"), "ramp") as folder:
        write(folder, "first")
    said = f"^{folder} has a report, or a run under way: choose another --name, or --replace it$"
    with pytest.raises(InputError, match=said), reserved(options(tmp_path, "before"), "ramp"):
        pass
    with pytest.raises(ZeroDivisionError), reserved(options(tmp_path, "before", replace=True), "ramp"):
        raise ZeroDivisionError  # before anything was written
    assert (folder / "report.json").read_text() == "first"
    with reserved(options(tmp_path, "before", replace=True), "ramp"):
        write(folder, "second")
    assert (folder / "report.json").read_text() == "second"


def test_without_a_name_the_next_one_that_is_free_is_taken(tmp_path: Path) -> None:
    for name in ("ramp", "ramp-2", "ramp-3"):
        with reserved(options(tmp_path), "ramp") as folder:
            write(folder, name)
    assert {each.name: (each / "report.json").read_text() for each in tmp_path.iterdir()} == {
        name: name for name in ("ramp", "ramp-2", "ramp-3")
    }
    with reserved(options(tmp_path, replace=True), "ramp") as folder:
        assert folder.name == "ramp"


def test_of_runs_that_start_at_once_one_gets_the_name(tmp_path: Path) -> None:
    start, outcomes = threading.Barrier(8), list[str]()

    def reserve() -> None:
        start.wait()
        try:
            with reserved(options(tmp_path, "ramp"), "ramp"):
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
        reserved(options(tmp_path / out), "ramp"),
    ):
        pass
