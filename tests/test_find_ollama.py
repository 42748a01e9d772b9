"""Where Ollama comes from: a local HTTP server stands in for the release host."""

import errno
import hashlib
import io
import os
import platform
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard

from launcher import cache, find_ollama, ollama_build
from launcher.console import Problem
from launcher.find_ollama import VERSION
from launcher.ollama_release import ARCHITECTURES, is_wanted
from tests.scripted import Scripted, scripted

ARCHIVE = f"ollama-linux-{ARCHITECTURES[platform.machine()]}.tar.zst"
PROGRAM = b"#!/bin/sh\necho released\n"


def release() -> bytes:
    """Return an archive laid out as the official one."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in {
            "bin/ollama": PROGRAM,
            "lib/ollama/libggml-cpu-haswell.so": b"cpu",
            "lib/ollama/cuda_v13/libggml-cuda.so": b"cuda",
            "lib/ollama/vulkan/libggml-vulkan.so": b"vulkan",
        }.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return zstandard.compress(content.getvalue())


def serve_release(archive: bytes, checksum: str | None = None) -> Any:
    """Serve an archive with its checksum, or with another one."""
    checksum = checksum or hashlib.sha256(archive).hexdigest()
    sums = f"{'0' * 64}  ./OllamaSetup.exe\n{checksum}  ./{ARCHIVE}\n".encode()
    return scripted(**{f"v{VERSION}/sha256sum.txt": sums, f"v{VERSION}/{ARCHIVE}": archive})


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine that has neither Ollama nor any other tool."""
    return {"SLUICE_CACHE": str(tmp_path / "cache"), "PATH": str(tmp_path / "bin")}


def install(environ: dict[str, str], server: Scripted) -> Path:
    return find_ollama.find_ollama(environ, releases=server.url)


def left_in(environ: dict[str, str]) -> set[str]:
    """Return what the cache holds, but for the lock."""
    return {path.name for path in Path(environ["SLUICE_CACHE"]).iterdir()} - {"lock"}


def put_program(folder: str, name: str) -> Path:
    program = Path(folder) / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_bytes(PROGRAM)
    program.chmod(0o755)
    return program


def test_ollama_on_path_comes_first(environ: dict[str, str]) -> None:
    program = put_program(environ["PATH"], "ollama")
    assert find_ollama.find_ollama(environ, releases="http://unused.invalid") == program


def test_the_release_is_unpacked_without_gpu_libraries(environ: dict[str, str]) -> None:
    with serve_release(release()) as server:
        program = install(environ, server)
    assert program.read_bytes() == PROGRAM
    assert os.access(program, os.X_OK)
    libraries = program.parent.parent / "lib" / "ollama"
    assert [path.name for path in libraries.iterdir()] == ["libggml-cpu-haswell.so"]
    assert left_in(environ) == {f"ollama-{VERSION}"}


def test_a_machine_with_an_nvidia_gpu_gets_cuda(environ: dict[str, str]) -> None:
    put_program(environ["PATH"], "nvidia-smi")
    with serve_release(release()) as server:
        program = install(environ, server)
    libraries = program.parent.parent / "lib" / "ollama"
    assert sorted(path.name for path in libraries.iterdir()) == ["cuda_v13", "libggml-cpu-haswell.so"]


def test_an_earlier_install_is_used(environ: dict[str, str]) -> None:
    with serve_release(release()) as server:
        first = install(environ, server)
        asked = len(server.requests)
        assert install(environ, server) == first
        assert len(server.requests) == asked


def test_progress_is_shown(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with serve_release(release()) as server:
        install(environ, server)
    shown = capsys.readouterr().out
    assert f"downloading {server.url}" in shown
    assert "unpacking Ollama" in shown


def test_a_wrong_checksum_installs_nothing(environ: dict[str, str]) -> None:
    with (
        serve_release(release(), checksum="1" * 64) as server,
        pytest.raises(Problem, match="wrong checksum") as raised,
    ):
        install(environ, server)
    assert "1" * 64 in str(raised.value)
    assert left_in(environ) == set()


def test_a_damaged_archive_installs_nothing(environ: dict[str, str]) -> None:
    with serve_release(b"not an archive") as server, pytest.raises(Problem, match="can't be unpacked"):
        install(environ, server)
    assert left_in(environ) == set()


class Usage(NamedTuple):
    """As shutil.disk_usage has it, in bytes."""

    total: int
    used: int
    free: int


def test_too_little_space_is_seen_before_the_download(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(100, 100, 10))
    with serve_release(release()) as server, pytest.raises(Problem, match=r"no disk space.*SLUICE_CACHE"):
        install(environ, server)
    assert left_in(environ) == set()


def test_a_disk_that_fills_up_is_one_line(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with serve_release(release()) as server, pytest.raises(Problem, match="no disk space left"):
        install(environ, server)
    assert left_in(environ) == set()


def test_a_cache_that_cannot_be_written_is_one_line(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environ["SLUICE_CACHE"] = str(tmp_path / "file" / "cache")
    with pytest.raises(Problem, match=r"can't be written.*SLUICE_CACHE"):
        find_ollama.find_ollama(environ, releases="http://unused.invalid")


def test_an_unreachable_release_host_leads_to_a_build(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Problem, match=r"building Ollama needs go, gcc, g\+\+, make .*apt-get install golang-go"):
        find_ollama.find_ollama(environ, releases="http://127.0.0.1:9")  # the discard port: nothing listens
    assert "building version" in capsys.readouterr().out


def test_a_host_without_this_release_leads_to_a_build(environ: dict[str, str]) -> None:
    with scripted() as server, pytest.raises(Problem, match="building Ollama needs"):
        install(environ, server)


def test_a_module_with_another_checksum_is_not_built(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for tool in ollama_build.TOOLS:
        put_program(environ["PATH"], tool)
    go = Path(environ["PATH"]) / "go"
    go.write_text(f'#!/bin/sh\necho \'{{"Dir": "{work}", "Sum": "h1:other"}}\'\n')
    monkeypatch.setenv("PATH", f"{environ['PATH']}:{os.environ['PATH']}")  # where subprocess looks for go
    with pytest.raises(Problem, match=r"wrong checksum: github.com/ollama/ollama@v0.17.4 has h1:other"):
        ollama_build.build_ollama(tmp_path / "made", work, {**environ, "PATH": os.environ["PATH"]}, VERSION)


def test_the_cache_folder_follows_the_environment() -> None:
    assert cache.cache_dir({"HOME": "/home/x"}) == Path("/home/x/.cache/sluice")
    assert cache.cache_dir({"HOME": "/home/x", "XDG_CACHE_HOME": "/y"}) == Path("/y/sluice")
    assert cache.cache_dir({"HOME": "/home/x", "SLUICE_CACHE": "/z"}) == Path("/z")


@pytest.mark.parametrize(
    ("path", "cpu", "gpu"),
    [
        ("bin/ollama", True, True),
        ("./lib/ollama/libggml-base.so", True, True),
        ("lib/ollama/cuda_v12/libcublas.so.12", False, True),
        ("lib/ollama/rocm/librocblas.so", False, False),
        ("./lib/ollama/mlx_metal_v3/libmlx.so", False, False),
    ],
)
def test_what_a_machine_needs_of_the_release(path: str, cpu: bool, gpu: bool) -> None:
    assert (is_wanted(path, gpu=False), is_wanted(path, gpu=True)) == (cpu, gpu)
