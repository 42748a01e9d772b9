"""The programs that building Ollama takes from this machine, and what they must be able to."""

import re
import shutil
import subprocess
from collections.abc import Mapping

from launcher.console import Problem

PACKAGES = {"go": "golang-go", "gcc": "gcc", "g++": "g++", "git": "git"}  # Debian's
OLDEST_GO = (1, 21)  # the first that downloads the newer Go which a module asks for
NEEDED_GO = (1, 26)  # what Ollama's go.mod asks for
OLDEST_GCC = 11


def check_tools(environ: Mapping[str, str]) -> None:
    """Raise Problem unless the tools are there and new enough."""
    missing = [tool for tool in PACKAGES if not shutil.which(tool, path=environ.get("PATH"))]
    if missing:
        packages = " ".join(PACKAGES[tool] for tool in missing)
        raise Problem(
            f"building Ollama needs {', '.join(missing)} (Debian: apt-get install {packages}), or an ollama on PATH"
        )
    _check_go(environ)
    for compiler in ("gcc", "g++"):
        _check_gcc(compiler, environ)


def _check_go(environ: Mapping[str, str]) -> None:
    version, toolchain, *_ = [*_ask(["go", "env", "GOVERSION", "GOTOOLCHAIN"], environ).splitlines(), "", ""]
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if number and number < OLDEST_GO:
        needed = ".".join(map(str, OLDEST_GO))
        raise Problem(f"building Ollama needs Go {needed} or newer, this is {version}: install a newer one")
    if number and number < NEEDED_GO and toolchain == "local":
        needed = ".".join(map(str, NEEDED_GO))
        raise Problem(f"building Ollama needs Go {needed}, this is {version} with GOTOOLCHAIN=local: unset that")


def _check_gcc(compiler: str, environ: Mapping[str, str]) -> None:
    version = _ask([compiler, "-dumpversion"], environ).strip()
    major = re.match(r"\d+", version)
    if major and int(major[0]) < OLDEST_GCC:
        raise Problem(f"building Ollama needs {compiler} {OLDEST_GCC} or newer, this is {version}: install a newer one")


def _ask(command: list[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environ), check=False)
    return done.stdout
