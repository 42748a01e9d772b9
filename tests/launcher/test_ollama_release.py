"""Ollama's release: what is downloaded, unpacked and refused."""

import errno
import hashlib
import os
import re
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from launcher.console import Problem
from launcher.ollama_release import ARCHITECTURES, CHECKSUMS, Release, is_wanted
from service.ollama_version import VERSION
from tests.support.releases import ARCHIVE, PROGRAM, bare_machine, install, left_in, put_program, release, serve_release


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return bare_machine(tmp_path)


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
