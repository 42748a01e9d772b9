"""Where Ollama's program comes from: PATH, an earlier install, the official release, or its source."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from launcher.cache import ADVICE, cache_dir, exclusive
from launcher.console import Problem, is_no_space, say
from launcher.cpu import cpu_name
from launcher.ollama_build import build_ollama
from launcher.ollama_release import Release, ReleaseUnreachable, download_release
from service.ollama_version import VERSION, is_too_old, version_note

PROGRAM = Path("bin") / "ollama"
ASK_TIMEOUT = 10.0  # seconds for a program to say its version


def find_ollama(environ: Mapping[str, str], *, release: Release | None = None) -> Path:
    """Return Ollama's program, installing it into the cache when this machine has none that Sluice supports.

    Raises Problem: no space, a wrong checksum, a broken download, a tool that is missing or too old.
    """
    if found := shutil.which("ollama", path=environ.get("PATH")):
        version = program_version(Path(found), environ)
        if not is_too_old(version):
            return Path(found)
        say(f"{found}: {version_note(version)}; using {VERSION} instead")
    return _installed(environ) or _install(environ, release or Release())


def program_version(program: Path, environ: Mapping[str, str]) -> str:
    """Return what a program calls its version, empty if it doesn't say."""
    # It asks a running Ollama too, whose version isn't the program's: at this address is none.
    env = {**environ, "OLLAMA_HOST": "127.0.0.1:9"}
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, env=env, timeout=ASK_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    _, _, version = done.stdout.strip().rpartition("version is ")
    return version if done.returncode == 0 and "version is " in done.stdout else ""


def _released(environ: Mapping[str, str]) -> Path:
    return cache_dir(environ) / f"ollama-{VERSION}"


def _built(environ: Mapping[str, str]) -> Path:
    """Return the folder of a build, which runs on this CPU only: home directories are shared, images are copied."""
    return cache_dir(environ) / f"ollama-{VERSION}-{cpu_name()}"


def _installed(environ: Mapping[str, str]) -> Path | None:
    programs = (home / PROGRAM for home in (_released(environ), _built(environ)))
    return next((program for program in programs if program.exists()), None)


def _install(environ: Mapping[str, str], release: Release) -> Path:
    """Put Ollama into the cache, whole or not at all."""
    folder = cache_dir(environ)
    with exclusive(folder):
        if program := _installed(environ):  # another start has installed it meanwhile
            return program
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix="installing-") as name:
                return _make(Path(name), environ, release) / PROGRAM
        except OSError as error:
            if is_no_space(error):
                raise Problem(f"no disk space left in {folder}: {ADVICE}") from error
            raise Problem(f"Ollama can't be installed in {folder}: {error}") from error


def _make(folder: Path, environ: Mapping[str, str], release: Release) -> Path:
    """Download Ollama, or build it, in a folder that goes away; return the one in the cache to which it was moved."""
    made, work = folder / "ollama", folder / "work"
    work.mkdir()
    home = _released(environ)
    try:
        download_release(made, work, environ, release)
    except ReleaseUnreachable as error:
        say(f"Ollama's releases can't be reached ({error}): building version {VERSION} from source")
        home = _built(environ)
        build_ollama(made, work, environ)
    return made.rename(home)
