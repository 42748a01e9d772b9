"""Ollama's official release: downloaded, checked against the checksums beside it, unpacked."""

import hashlib
import platform
import shutil
import tarfile
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import urlopen

from launcher.cache import need_space
from launcher.console import Problem, Progress, megabytes

RELEASES = "https://github.com/ollama/ollama/releases/download"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
TIMEOUT = 20.0  # seconds without a byte
UNPACKED_CPU, UNPACKED_GPU = 200_000_000, 5_000_000_000  # bytes, rounded up


class ReleaseUnreachable(Exception):
    """The release host doesn't answer, or has nothing for this machine."""


def download_release(made: Path, work: Path, environ: Mapping[str, str], base: str) -> None:
    """Put the release at the URL `base` into the folder `made`, by way of the folder `work`.

    Raises ReleaseUnreachable, Problem (a wrong checksum, no space, a broken download) or OSError.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise ReleaseUnreachable(f"there is none for {platform.machine()}")
    name = f"ollama-linux-{architecture}.tar.zst"
    expected = _published_checksum(base, name)
    actual = _download(f"{base}/{name}", work / name)
    if actual != expected:
        raise Problem(f"wrong checksum: {base}/{name} has {actual}, published is {expected}; nothing was installed")
    gpu = shutil.which("nvidia-smi", path=environ.get("PATH")) is not None
    need_space(work, UNPACKED_GPU if gpu else UNPACKED_CPU, "unpacking Ollama")
    _unpack(work / name, made, gpu=gpu)


def _published_checksum(base: str, name: str) -> str:
    try:
        with urlopen(f"{base}/sha256sum.txt", timeout=TIMEOUT) as response:  # noqa: S310
            lines = response.read().decode(errors="replace").splitlines()
    except HTTPError as error:
        raise ReleaseUnreachable(f"{base} answers {error.code}") from error
    except (OSError, HTTPException) as error:
        raise ReleaseUnreachable(str(getattr(error, "reason", error))) from error
    for line in lines:
        digest, _, path = str(line).partition(" ")
        if path.strip().lstrip("*").removeprefix("./") == name:
            return digest
    raise Problem(f"{base}/sha256sum.txt has no line for {name}")


def _download(url: str, archive: Path) -> str:
    """Write what is at `url` to `archive` and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    with Progress(f"downloading {url}") as progress, _open(url) as response, archive.open("wb") as file:
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
    except (OSError, HTTPException) as error:
        raise Problem(f"{url} can't be downloaded: {error}") from error
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
    """Say whether a file of the archive is for this machine: GPU libraries are folders of lib/ollama."""
    parts = path.removeprefix("./").split("/")
    return parts[:2] != ["lib", "ollama"] or len(parts) <= 3 or (gpu and parts[2].startswith("cuda"))
