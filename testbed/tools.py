"""Programs that aren't Python packages, and what is said where one is missing."""

import shutil
from typing import NoReturn

from launcher.console import Problem


class Missing(Problem):
    """This machine lacks something. A command ends with the sentence; a test is skipped, and fails where CI=true."""


def need_tool(name: str, package: str) -> str:
    """Return a program's path. Raises Missing, which names Debian's package."""
    return shutil.which(name) or missing(f"{name} is missing: install Debian's {package}")


def missing(what: str) -> NoReturn:
    """Raise Missing, as an expression."""
    raise Missing(what)
