"""Where Ollama comes from: a local HTTP server stands in for the release host."""

import errno
import hashlib
import io
import os
import platform
import re
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
import zstandard

from launcher import cache, find_ollama
from launcher.console import Problem
from launcher.cpu import cpu_name
from launcher.ollama_release import ARCHITECTURES, CHECKSUMS, Release, is_wanted
from service.ollama_version import OLDEST, VERSION
from tests.scripted import scripted

ARCHIVE = f"ollama-linux-{ARCHITECTURES[platform.machine()]}.tar.zst"
PROGRAM = b"#!/bin/sh\necho released\n"
UNREACHABLE = Release("http://127.0.0.1:9", CHECKSUMS)  # the discard port: nothing listens


def release() -> bytes:
    """Return an archive laid out as the official one."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in {
            "bin/ollama": PROGRAM,
            "lib/ollama/llama-server": b"server",
            "lib/ollama/libggml-cpu-haswell.so": b"cpu",
            "lib/ollama/cuda_v13/libggml-cuda.so": b"cuda",
            "lib/ollama/vulkan/libggml-vulkan.so": b"vulkan",
        }.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return zstandard.compress(content.getvalue())


@contextmanager
def serve_release(archive: bytes, checksum: str | None = None) -> Iterator[Release]:
    """Serve an archive and expect it, or one with another checksum."""
    with scripted(**{f"v{VERSION}/{ARCHIVE}": archive}) as server:
        yield Release(f"{server.url}/v{VERSION}", {ARCHIVE: checksum or hashlib.sha256(archive).hexdigest()})


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine that has neither Ollama nor any other tool."""
    return {"SLUICE_CACHE": str(tmp_path / "cache"), "PATH": str(tmp_path / "bin")}


def install(environ: dict[str, str], release: Release) -> Path:
    return find_ollama.find_ollama(environ, release=release)


def left_in(environ: dict[str, str]) -> set[str]:
    """Return what the cache holds, but for the lock."""
    return {path.name for path in Path(environ["SLUICE_CACHE"]).iterdir()} - {"lock"}


def put_program(folder: str, name: str, script: str = "echo released") -> Path:
    program = Path(folder) / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def put_ollama(environ: dict[str, str], version: str) -> Path:
    """Put an Ollama on PATH that says its version as a real one does where no server answers."""
    words = "Warning: could not connect to a running Ollama instance\\nWarning: client version is"
    return put_program(environ["PATH"], "ollama", f"printf '{words} {version}\\n'")


def test_ollama_on_path_comes_first(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    program = put_ollama(environ, VERSION)
    assert install(environ, UNREACHABLE) == program
    assert capsys.readouterr().out == ""


def test_one_on_path_that_does_not_say_its_version_is_used(environ: dict[str, str]) -> None:
    program = put_program(environ["PATH"], "ollama", "exit 1")
    assert install(environ, UNREACHABLE) == program


def test_one_on_path_that_is_newer_is_used_with_a_word(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    program = put_ollama(environ, "9.0.1")
    assert install(environ, UNREACHABLE) == program
    assert f"{program}: Ollama 9.0.1 is newer than any that was tried" in capsys.readouterr().out


def test_one_on_path_that_is_too_old_is_passed_over_with_a_word(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    old = put_ollama(environ, "0.17.4")
    with serve_release(release()) as reachable:
        program = install(environ, reachable)
    assert program.is_relative_to(environ["SLUICE_CACHE"])
    expected = rf"{old}: Ollama 0\.17\.4 is older than supported: .*{OLDEST}.*; using {VERSION} instead"
    assert re.search(expected, capsys.readouterr().out)


def test_the_release_is_unpacked_without_gpu_libraries(environ: dict[str, str]) -> None:
    with serve_release(release()) as reachable:
        program = install(environ, reachable)
    assert program.read_bytes() == PROGRAM
    assert os.access(program, os.X_OK)
    libraries = program.parent.parent / "lib" / "ollama"
    assert sorted(path.name for path in libraries.iterdir()) == ["libggml-cpu-haswell.so", "llama-server"]
    assert left_in(environ) == {f"ollama-{VERSION}"}


def test_a_machine_with_an_nvidia_gpu_gets_cuda(environ: dict[str, str]) -> None:
    put_program(environ["PATH"], "nvidia-smi")
    with serve_release(release()) as reachable:
        program = install(environ, reachable)
    libraries = program.parent.parent / "lib" / "ollama"
    assert sorted(path.name for path in libraries.iterdir()) == ["cuda_v13", "libggml-cpu-haswell.so", "llama-server"]


def test_an_earlier_install_is_used(environ: dict[str, str]) -> None:
    with serve_release(release()) as reachable:
        first = install(environ, reachable)
    assert install(environ, UNREACHABLE) == first


def put_build(environ: dict[str, str], cpu: str) -> Path:
    return put_program(f"{environ['SLUICE_CACHE']}/ollama-{VERSION}-{cpu}/bin", "ollama")


def test_an_earlier_build_is_used(environ: dict[str, str]) -> None:
    built = put_build(environ, cpu_name())
    assert install(environ, UNREACHABLE) == built


def test_a_build_for_another_cpu_is_not_used(environ: dict[str, str]) -> None:
    other = put_build(environ, "x86_64-00000000")
    with pytest.raises(Problem, match="building Ollama needs"):
        install(environ, UNREACHABLE)
    assert other.exists()


def test_progress_is_shown(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with serve_release(release()) as reachable:
        install(environ, reachable)
    shown = capsys.readouterr().out
    assert f"downloading {reachable.url}" in shown
    assert "unpacking Ollama" in shown


def test_a_wrong_checksum_installs_nothing(environ: dict[str, str]) -> None:
    with (
        serve_release(release(), checksum="1" * 64) as reachable,
        pytest.raises(Problem, match="wrong checksum") as raised,
    ):
        install(environ, reachable)
    assert "1" * 64 in str(raised.value)
    assert left_in(environ) == set()


def test_a_damaged_archive_installs_nothing(environ: dict[str, str]) -> None:
    with serve_release(b"not an archive") as reachable, pytest.raises(Problem, match="can't be unpacked"):
        install(environ, reachable)
    assert left_in(environ) == set()


class Usage(NamedTuple):
    """As shutil.disk_usage has it, in bytes."""

    total: int
    used: int
    free: int


def test_too_little_space_is_seen_before_the_download(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(100, 100, 10))
    with serve_release(release()) as reachable, pytest.raises(Problem, match=r"no disk space.*SLUICE_CACHE"):
        install(environ, reachable)
    assert left_in(environ) == set()


def test_a_disk_that_fills_up_is_one_line(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with serve_release(release()) as reachable, pytest.raises(Problem, match="no disk space left"):
        install(environ, reachable)
    assert left_in(environ) == set()


def test_a_cache_that_cannot_be_written_is_one_line(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environ["SLUICE_CACHE"] = str(tmp_path / "file" / "cache")
    with pytest.raises(Problem, match=r"can't be written.*SLUICE_CACHE"):
        install(environ, UNREACHABLE)


def test_an_unreachable_release_host_leads_to_a_build(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Problem, match=r"building Ollama needs go, gcc, g\+\+, git .*apt-get install golang-go"):
        install(environ, UNREACHABLE)
    assert "building version" in capsys.readouterr().out


def test_a_host_without_this_release_leads_to_a_build(environ: dict[str, str]) -> None:
    with scripted() as server, pytest.raises(Problem, match="building Ollama needs"):
        install(environ, Release(server.url, CHECKSUMS))


def test_the_cache_folder_follows_the_environment() -> None:
    assert cache.cache_dir({"HOME": "/home/x"}) == Path("/home/x/.cache/sluice")
    assert cache.cache_dir({"HOME": "/home/x", "XDG_CACHE_HOME": "/y"}) == Path("/y/sluice")
    assert cache.cache_dir({"HOME": "/home/x", "SLUICE_CACHE": "/z"}) == Path("/z")


@pytest.mark.parametrize(
    ("path", "cpu", "gpu"),
    [
        ("bin/ollama", True, True),
        ("./lib/ollama/libggml-base.so", True, True),
        ("lib/ollama/llama-server", True, True),
        ("lib/ollama/cuda_v12/libcublas.so.12", False, True),
        ("./lib/ollama/cuda_v13/libggml-cuda.so", False, True),
        ("lib/ollama/cuda_jetpack6/libggml-cuda.so", False, False),
        ("lib/ollama/vulkan/libggml-vulkan.so", False, False),
        ("lib/ollama/rocm_v7_2/rocblas/library/Kernels.hsaco", False, False),
        ("./lib/ollama/mlx_cuda_v13/libmlx.so", False, False),
    ],
)
def test_what_a_machine_needs_of_the_release(path: str, cpu: bool, gpu: bool) -> None:
    assert (is_wanted(path, gpu=False), is_wanted(path, gpu=True)) == (cpu, gpu)


def test_there_is_a_checksum_for_every_architecture() -> None:
    assert set(CHECKSUMS) == {f"ollama-linux-{name}.tar.zst" for name in ARCHITECTURES.values()}
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in CHECKSUMS.values())


@contextmanager
def broken_off(archive: bytes) -> Iterator[str]:
    """Serve half of an archive, as a connection that breaks leaves it."""

    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.recv(1 << 16)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(archive)}\r\n\r\n".encode()
            connection.sendall(head + archive[: len(archive) // 2])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=answer, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_download_that_breaks_off_installs_nothing(environ: dict[str, str]) -> None:
    whole = release()
    with broken_off(whole) as url, pytest.raises(Problem, match=r"broke off after 0 MB of 0 MB: start again"):
        install(environ, Release(url, {ARCHIVE: hashlib.sha256(whole).hexdigest()}))
    assert left_in(environ) == set()
