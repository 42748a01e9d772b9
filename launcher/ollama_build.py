"""Ollama built for this machine from its Go module and llama.cpp's source, for where its releases can't be reached."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path

from launcher.build_tools import check_tools
from launcher.cache import cache_dir, need_space
from launcher.console import say
from launcher.memory import default_mib
from launcher.ollama_sources import llama_cpp_source, ollama_source
from launcher.processes import Step, run_steps
from launcher.uv import uv_run
from service.cpus import available_cpus
from service.ollama_version import VERSION

BUILD_BYTES = 2_000_000_000
CPU_SECONDS = 305  # of all that a build does, downloads too: 164 s on 2 idle CPUs (AMD EPYC)
JOB_MIB = 1500  # that the largest source takes to compile, rounded up
# In one shell: the build folder remembers where cmake was, and uv puts it elsewhere each time.
CMAKE = """
source=$1 llama_cpp=$2 build=$3 made=$4 jobs=$5 quickly=$6
cmake -S "$source/llama/server" --preset cpu -B "$build" -G Ninja -DCMAKE_INSTALL_PREFIX="$made" \\
      -DFETCHCONTENT_SOURCE_DIR_LLAMA_CPP="$llama_cpp" -DCMAKE_PROJECT_ollama-llama-server_INCLUDE="$quickly" \\
      -DGGML_CPU_ALL_VARIANTS=OFF -DGGML_BACKEND_DL=OFF -DGGML_NATIVE=ON \\
      -DGGML_CCACHE=OFF -DCMAKE_C_FLAGS=-w -DCMAKE_CXX_FLAGS=-w \\
      -DCMAKE_C_FLAGS_RELEASE="-O1 -DNDEBUG" -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" &&
cmake --build "$build" --target llama-server llama-quantize --parallel "$jobs" &&
cmake --install "$build" --component llama-server --strip
"""
QUICKLY = Path(__file__).with_name("llama_server.cmake")
# `ollama launch vscode` alone uses it, and its C takes longer to compile than the rest of Ollama.
SQLITE = "github.com/mattn/go-sqlite3"


def build_ollama(made: Path, work: Path, environ: Mapping[str, str]) -> None:
    """Build Ollama into the folder `made`, by way of the folder `work`.

    Raises Problem: a tool that is missing or too old, no space, a wrong checksum, a step that failed.
    """
    check_tools(environ)
    need_space(work, BUILD_BYTES, "building Ollama")
    cpus = available_cpus()
    say(f"building Ollama {VERSION} for this machine takes about {estimate(cpus)}, if its {cpus} CPUs are idle")
    env = {**environ, "CC": "gcc", "CXX": "g++"}  # those that were checked
    folder = cache_dir(environ)
    source = ollama_source(work, env)
    llama_cpp = llama_cpp_source(work, env, folder / "download.log")
    _leave_out_sqlite(source)
    run_steps(
        f"compiling Ollama {VERSION}",
        Step("llama-server", _cmake(source, llama_cpp, made, work, env), folder / "build-llama-server.log", env),
        Step("ollama", _go_build(made), folder / "build-ollama.log", _go_environ(env), source),
    )


def estimate(cpus: int) -> str:
    """Return how long a build takes with so many CPUs, in words."""
    seconds = CPU_SECONDS / cpus + 15  # to download, and for the last file
    return f"{ceil(seconds / 60)} minutes" if seconds > 60 else "a minute"


def jobs(cpus: int) -> int:
    """Return how many C++ compilers may run at once: one a CPU, if memory allows."""
    return max(1, min(cpus, default_mib() // JOB_MIB))


def _cmake(source: Path, llama_cpp: Path, made: Path, work: Path, environ: Mapping[str, str]) -> list[str | Path]:
    folders: list[str | Path] = [source, llama_cpp, work / "build", made]
    command = ["sh", "-c", CMAKE, "sh", *folders, str(jobs(available_cpus())), QUICKLY]
    return uv_run("build", command, environ)


def _go_build(made: Path) -> list[str | Path]:
    flags = f"-s -w -X=github.com/ollama/ollama/version.Version={VERSION}"
    return ["go", "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", made / "bin" / "ollama", "."]


def _go_environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {**environ, "CGO_ENABLED": "1", "CGO_CFLAGS": "-O1 -g0", "GOFLAGS": "-mod=readonly"}


def _leave_out_sqlite(source: Path) -> None:
    empty = source / "without-sqlite"
    empty.mkdir()
    (empty / "go.mod").write_text(f"module {SQLITE}\n")
    (empty / "empty.go").write_text("package sqlite3\n")
    with (source / "go.mod").open("a") as file:
        file.write(f"\nreplace {SQLITE} => ./{empty.name}\n")
