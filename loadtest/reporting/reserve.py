"""The folder of a report, reserved before anything is measured, so that no measurement is lost to it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from command_line import InputError, form

REPORTS = Path("loadtest/reports")
folder_name = form(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", "a folder's name of letters, digits, dots and dashes")


def add_folder_options(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Add where a report goes. default: its name, in words where it isn't always the same."""
    help_ = f"of the report and of its folder; default: {default}, with a number where that is taken"
    parser.add_argument("--name", type=folder_name, help=help_)
    add_out(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add where reports go whose names are given."""
    parser.add_argument("--out", type=Path, default=REPORTS, metavar="DIR", help=f"where it is; default: {REPORTS}")
    parser.add_argument("--replace", action="store_true", help="replace an earlier report of the same name")


@contextmanager
def reserved(options: argparse.Namespace, default: str) -> Iterator[Path]:
    """Reserve a folder for the block, which writes a report into it; without a report the folder goes again.

    Its name is the one that was asked for, else `default`, or the first of default-2, default-3, … that is free. Raises
    InputError where it can't be written, or the name that was asked for has a report, or another run has reserved it.
    """
    asked = getattr(options, "name", None)
    for number in count(1):
        folder = options.out / (asked or (default if number == 1 else f"{default}-{number}"))
        there = folder.exists()
        if _reserve(folder, replace=options.replace):
            break
        if asked:
            raise InputError(f"{folder} has a report, or a run under way: choose another --name, or --replace it")
    try:
        yield folder
    finally:
        _give_back(folder, there)


def _reserve(folder: Path, *, replace: bool) -> bool:
    """Put an empty report into a folder, and say whether that could be done without replacing one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").open("a" if replace else "x").close()
    except OSError as problem:
        if isinstance(problem, FileExistsError) and folder.is_dir():
            return False
        raise InputError(f"{folder} can't be written: {problem.strerror} ({problem.filename})") from None
    return True


def _give_back(folder: Path, there: bool) -> None:
    report = folder / "report.json"
    with suppress(OSError):
        if not report.stat().st_size:
            report.unlink()
            if not there:
                folder.rmdir()
