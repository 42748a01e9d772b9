"""The folder of a report, reserved before anything is measured, so that no measurement is lost to it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from command_line import InputError, form

REPORTS = Path("loadtest/reports")
folder_name = form(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", "a folder's name of letters, digits, dots and dashes")


def add_folder_options(parser: argparse.ArgumentParser, *, name: str | None, default: str = "") -> None:
    """Add where a report goes. default: the name in words, where it isn't always the same."""
    help_ = f"of the report and of its folder; default: {default or name}"
    parser.add_argument("--name", type=folder_name, default=name, help=help_)
    add_out(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add where reports go whose names are given."""
    parser.add_argument("--out", type=Path, default=REPORTS, metavar="DIR", help=f"where it is; default: {REPORTS}")
    parser.add_argument("--replace", action="store_true", help="replace an earlier report of the same name")


@contextmanager
def reserved(out: Path, name: str, *, replace: bool = False) -> Iterator[Path]:
    """Reserve the folder `name` in `out` for the block, which writes the report into it; without one it goes again.

    Raises InputError where it can't be written, or has a report, or another run has reserved it.
    """
    folder = out / name
    report = folder / "report.json"
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        report.open("a" if replace else "x").close()
    except OSError as problem:
        if isinstance(problem, FileExistsError) and report.exists():
            what = "has a report, or a run under way: choose another --name or --out, or --replace it"
            raise InputError(f"{folder} {what}") from None
        raise InputError(f"{folder} can't be written: {problem.strerror} ({problem.filename})") from None
    try:
        yield folder
    finally:
        _give_back(folder, report, there)


def _give_back(folder: Path, report: Path, there: bool) -> None:
    with suppress(OSError):
        if not report.stat().st_size:
            report.unlink()
            if not there:
                folder.rmdir()
