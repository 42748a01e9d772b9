"""Where Ollama's program comes from: PATH, an earlier install, the official release, or its source."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from launcher.cache import ADVICE, cache_dir, exclusive
from launcher.console import Problem, is_no_space, say
from launcher.ollama_build import build_ollama
from launcher.ollama_release import RELEASES, ReleaseUnreachable, download_release

VERSION = "0.17.4"


def find_ollama(environ: Mapping[str, str], *, releases: str = RELEASES, version: str = VERSION) -> Path:
    """Return Ollama's program, installing it into the cache when this machine has none.

    Raises Problem: no space, a wrong checksum, a missing tool.
    """
    if found := shutil.which("ollama", path=environ.get("PATH")):
        return Path(found)
    home = cache_dir(environ) / f"ollama-{version}"
    program = home / "bin" / "ollama"
    if not program.exists():
        with exclusive(home.parent):
            if not program.exists():  # another start may have installed it meanwhile
                _install(home, environ, releases, version)
    return program


def _install(home: Path, environ: Mapping[str, str], releases: str, version: str) -> None:
    """Make `home` appear whole or not at all."""
    try:
        with tempfile.TemporaryDirectory(dir=home.parent, prefix="installing-") as name:
            made, work = Path(name) / "ollama", Path(name) / "work"
            work.mkdir()
            try:
                download_release(made, work, environ, f"{releases}/v{version}")
            except ReleaseUnreachable as error:
                say(f"Ollama's releases can't be reached ({error}): building version {version} from its Go module")
                build_ollama(made, work, environ, version)
            made.rename(home)
    except OSError as error:
        if is_no_space(error):
            raise Problem(f"no disk space left in {home.parent}: {ADVICE}") from error
        raise Problem(f"Ollama can't be installed in {home}: {error}") from error
