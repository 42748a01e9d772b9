"""A machine that has no Ollama, and a local HTTP server in place of the host of Ollama's releases."""

import hashlib
import io
import platform
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from launcher import find_ollama
from launcher.ollama_release import ARCHITECTURES, CHECKSUMS, Release
from service.ollama_version import VERSION
from tests.support.stub import scripted

ARCHIVE = f"ollama-linux-{ARCHITECTURES[platform.machine()]}.tar.zst"
PROGRAM = b"#!/bin/sh\necho released\n"
UNREACHABLE = Release("http://127.0.0.1:9", CHECKSUMS)  # the discard port: nothing listens


def bare_machine(folder: Path) -> dict[str, str]:
    """Return the environment of a machine that has neither Ollama nor any other tool."""
    return {"SLUICE_CACHE": str(folder / "cache"), "PATH": str(folder / "bin")}


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


def install(environ: dict[str, str], release: Release) -> Path:
    """Return the program that a start on that machine finds or installs."""
    return find_ollama.find_ollama(environ, release=release)


def left_in(environ: dict[str, str]) -> set[str]:
    """Return what the cache holds, but for the lock."""
    return {path.name for path in Path(environ["SLUICE_CACHE"]).iterdir()} - {"lock"}


def put_program(folder: str, name: str, script: str = "echo released") -> Path:
    """Put a program into a folder."""
    program = Path(folder) / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program
