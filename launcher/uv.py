"""Commands with packages of a dependency group of this checkout, which stay out of its virtual environment."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.console import Problem

ROOT = Path(__file__).resolve().parent.parent


def has_uv(environ: Mapping[str, str]) -> bool:
    """Say whether uv and the lock file are there; the image has neither."""
    return bool(_uv(environ)) and (ROOT / "uv.lock").exists()


def uv_run(group: str, command: Sequence[str | Path], environ: Mapping[str, str], *options: str) -> list[str | Path]:
    """Return the command line that runs `command` with `group` as uv.lock has it. Raises Problem without uv."""
    if not has_uv(environ):
        raise Problem("uv is missing: start with `make serve`, or install uv")
    environment = ["--project", str(ROOT), "--isolated", "--locked", "--only-group", group]
    return [_uv(environ) or "uv", "run", *options, *environment, "--", *command]


def _uv(environ: Mapping[str, str]) -> str | None:
    """Return uv's path: uv and `make` put it into UV, as it need not be on PATH."""
    return environ.get("UV") or shutil.which("uv", path=environ.get("PATH"))
