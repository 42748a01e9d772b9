"""Ollama built from its Go module, for where its releases can't be reached."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from launcher.cache import cache_dir, need_space
from launcher.console import Problem, say
from launcher.processes import run_step
from launcher.uv import uv_run

MODULE = "github.com/ollama/ollama"
# What the Go checksum database has for each version that can be built.
SUMS = {"0.17.4": "h1:X3KNm9x4BlHqk/AXMGtC7pBAFd46nmJmy8yDaBZLo9s="}
# The Go module lacks llama.cpp's vendored headers (Go leaves out folders named vendor); this sdist has them.
HEADERS = "llama-cpp-python==0.3.36"
HEADERS_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
VENDORED = ("nlohmann", "miniaudio", "stb")
# In one shell: the build folder remembers where cmake was, and uv puts it elsewhere each time.
CMAKE = """
cmake -S "$1" -B "$2" -G "Unix Makefiles" -DCMAKE_INSTALL_PREFIX="$3" \\
      -DCMAKE_CUDA_COMPILER=NOTFOUND -DCMAKE_HIP_COMPILER=NOTFOUND &&
cmake --build "$2" --target ggml-cpu --parallel "$4" &&
cmake --install "$2" --component CPU --strip
"""
BUILD_BYTES = 2_000_000_000
TOOLS = {"go": "golang-go", "gcc": "gcc", "g++": "g++", "make": "make"}


def build_ollama(made: Path, work: Path, environ: Mapping[str, str], version: str) -> None:
    """Build Ollama into the folder `made`, by way of the folder `work`: about 8 minutes on two cores.

    Raises Problem: a missing tool, no space, a wrong checksum, a step that failed.
    """
    _check_tools(environ)
    need_space(work, BUILD_BYTES, "building Ollama")
    log = cache_dir(environ) / "build.log"
    source = _source(work, environ, version)
    _put_back_headers(source, work, environ, log)
    env = {**environ, "CGO_ENABLED": "1"}
    flags = f"-s -w -X=github.com/ollama/ollama/version.Version={version}"
    build = [
        "go",
        "build",
        "-v",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        flags,
        "-o",
        str(made / "bin" / "ollama"),
        ".",
    ]
    run_step("compiling Ollama (5 minutes on two cores)", build, log=log, env=env, cwd=source)
    _build_cpu_libraries(source, made, work, env, log)


def _check_tools(environ: Mapping[str, str]) -> None:
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=environ.get("PATH"))]
    if missing:
        packages = " ".join(TOOLS[tool] for tool in missing)
        raise Problem(
            f"building Ollama needs {', '.join(missing)} (Debian: apt-get install {packages}; Go 1.21 or newer), "
            "or an ollama on PATH"
        )


def _source(work: Path, environ: Mapping[str, str], version: str) -> Path:
    """Return a writable copy of the module, whose checksum was right."""
    say(f"downloading the Go module {MODULE}@v{version} …")
    command = ["go", "mod", "download", "-json", f"{MODULE}@v{version}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=work, check=False)
    module = json.loads(done.stdout or "{}")
    if done.returncode or "Dir" not in module:
        reason = module.get("Error") or done.stderr.strip() or "no answer"
        raise Problem(f"the Go module {MODULE}@v{version} can't be downloaded: {reason.splitlines()[-1]}")
    if module["Sum"] != SUMS.get(version):
        raise Problem(f"wrong checksum: {MODULE}@v{version} has {module['Sum']}, expected {SUMS.get(version)}")
    source = work / "source"
    shutil.copytree(module["Dir"], source)
    for path in (source, *source.rglob("*")):  # Go's module cache is read-only
        path.chmod(path.stat().st_mode | 0o200)
    return source


def _put_back_headers(source: Path, work: Path, environ: Mapping[str, str], log: Path) -> None:
    requirements = work / "headers.txt"
    requirements.write_text(f"{HEADERS} --hash=sha256:{HEADERS_SHA256}\n")
    # pip asks an sdist for its metadata even to download it: the backend comes from the group, locked.
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "--dest", str(work)]
    download = ["python", "-m", "pip", "download", *options, "--requirement", str(requirements)]
    run_step(f"downloading headers from {HEADERS}", uv_run("build", download, environ), log=log, env=environ)
    sdist = next(work.glob("llama_cpp_python-*.tar.gz"))
    target = source / "llama" / "llama.cpp" / "vendor"
    with tarfile.open(sdist) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if member.isfile() and parts[1:4] == ("vendor", "llama.cpp", "vendor") and parts[4] in VENDORED:
                path = target.joinpath(*parts[4:])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]


def _build_cpu_libraries(source: Path, made: Path, work: Path, environ: Mapping[str, str], log: Path) -> None:
    jobs = len(os.sched_getaffinity(0))
    command = uv_run("build", ["sh", "-c", CMAKE, "sh", source, work / "build", made, str(jobs)], environ)
    run_step("compiling Ollama's CPU libraries (3 minutes on two cores)", command, log=log, env=environ)
