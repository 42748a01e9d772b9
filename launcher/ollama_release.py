"""Ollama's official release: downloaded, compared with the checksum below, unpacked."""

import hashlib
import platform
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import urlopen

from launcher.cache import need_space
from launcher.console import Problem, Progress, megabytes
from service.ollama_version import VERSION

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# SHA-256 of VERSION's archives, so that whoever can change a release can't change what runs here.
CHECKSUMS = {
    "ollama-linux-amd64.tar.zst": "50539c5fe9bf85887733355098dcdb266b433cb8c73fa180713417e9ed6e42bb",
    "ollama-linux-arm64.tar.zst": "c898270b1690eab0f51aa9e9197686b7b4c6a7d88b83967763818f3127e477e9",
}
TIMEOUT = 20.0  # seconds without a byte
UNPACKED_CPU, UNPACKED_GPU = 300_000_000, 5_000_000_000  # bytes, rounded up


@dataclass(frozen=True)
class Release:
    """Where a release's archives are, and their checksums by name."""

    url: str = f"https://github.com/ollama/ollama/releases/download/v{VERSION}"
    checksums: Mapping[str, str] = field(default_factory=lambda: CHECKSUMS)


class ReleaseUnreachable(Exception):
    """The release host doesn't answer, or has nothing for this machine."""


def download_release(made: Path, work: Path, environ: Mapping[str, str], release: Release) -> None:
    """Put a release into the folder `made`, by way of the folder `work`.

    Raises ReleaseUnreachable, Problem (a wrong checksum, no space, a broken download) or OSError.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise ReleaseUnreachable(f"there is none for {platform.machine()}")
    name = f"ollama-linux-{architecture}.tar.zst"
    url, expected = f"{release.url}/{name}", release.checksums[name]
    actual = _download(url, work / name)
    if actual != expected:
        raise Problem(f"wrong checksum: {url} has {actual}, expected {expected}; nothing was installed")
    gpu = shutil.which("nvidia-smi", path=environ.get("PATH")) is not None
    need_space(work, UNPACKED_GPU if gpu else UNPACKED_CPU, "unpacking Ollama")
    _unpack(work / name, made, gpu=gpu)


def _download(url: str, archive: Path) -> str:
    """Write what is at `url` to `archive` and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    with _open(url) as response, Progress(f"downloading {url}") as progress, archive.open("wb") as file:
        total = response.length or 0
        need_space(archive.parent, total, "the download")
        while block := _read(response, url):
            file.write(block)
            digest.update(block)
            done += len(block)
            progress.amount(done, total)
        if done < total:
            raise Problem(f"{url} broke off after {megabytes(done)} of {megabytes(total)}: start again")
    return digest.hexdigest()


def _open(url: str) -> HTTPResponse:
    try:
        response: HTTPResponse = urlopen(url, timeout=TIMEOUT)  # noqa: S310
    except HTTPError as error:
        raise ReleaseUnreachable(f"{url} answers {error.code}") from error
    except (OSError, HTTPException) as error:
        raise ReleaseUnreachable(str(getattr(error, "reason", error))) from error
    return response


def _read(response: HTTPResponse, url: str) -> bytes:
    try:
        return response.read(1 << 20)
    except (OSError, HTTPException) as error:
        raise Problem(f"{url} broke off ({error}): start again") from error


def _unpack(archive: Path, made: Path, *, gpu: bool) -> None:
    try:
        from zstandard import ZstdDecompressor, ZstdError  # not in the image, where Ollama is on PATH
    except ImportError as error:
        raise Problem("unpacking Ollama needs zstandard: run `uv sync --group release`") from error
    with (
        Progress("unpacking Ollama") as progress,
        archive.open("rb") as file,
        ZstdDecompressor().stream_reader(file) as stream,
    ):
        try:
            _extract(stream, made, progress, gpu=gpu)
        except (tarfile.TarError, ZstdError) as error:
            raise Problem(f"{archive.name} can't be unpacked: {error}") from error


def _extract(stream: IO[bytes], made: Path, progress: Progress, *, gpu: bool) -> None:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        # The safe filter is missing from the first releases of Python 3.11; the checksum was right in any case.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        for member in tar:
            if is_wanted(member.name, gpu=gpu):
                progress.show(member.name)
                tar.extract(member, made)


def is_wanted(path: str, *, gpu: bool) -> bool:
    """Say whether a file of the archive is for this machine.

    lib/ollama has llama-server and the libraries for CPUs, and a folder for each way to use GPUs: cuda_v12, cuda_v13,
    vulkan, and in other archives rocm_v7_2, mlx_cuda_v13 and cuda_jetpack6.
    """
    parts = path.removeprefix("./").split("/")
    return parts[:2] != ["lib", "ollama"] or len(parts) <= 3 or (gpu and parts[2].startswith("cuda_v"))
