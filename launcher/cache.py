"""The launcher's folder for what it downloads and builds."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.console import Problem, megabytes, say

ADVICE = "free some, or set SLUICE_CACHE to a folder on another disk"


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder: $SLUICE_CACHE, else `sluice` in the user's cache folder."""
    if chosen := environ.get("SLUICE_CACHE"):
        return Path(chosen).absolute()
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache"
    return Path(base) / "sluice"


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it alone, so that two starts at once don't do the same. Raises Problem."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise Problem(f"{folder} can't be written ({error.strerror}): set SLUICE_CACHE to another folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another start is filling {folder}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need_space(folder: Path, wanted: int, label: str) -> None:
    """Raise Problem unless the disk of `folder` has `wanted` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise Problem(f"no disk space: {label} needs {megabytes(wanted)}, {folder} has {megabytes(free)}; {ADVICE}")
