"""What reading a body or a picture costs, in a process of its own."""

import multiprocessing
import os
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from service import create_models
from service.errors import ServiceError
from service.images import for_model
from service.openapi import ROUTES
from service.parsing import parse
from service.settings import Settings


class Cost(NamedTuple):
    """Why it was refused, empty if it wasn't; seconds of CPU, with child processes; MiB at the peak."""

    refused: str
    seconds: float
    mebibytes: float


def cost_of_body(path: str, body: bytes) -> Cost:
    """Return what the body of a request to `path` costs until it is ready for Ollama."""
    return _in_a_fork(_body, path, body)


def cost_of_picture(picture: bytes) -> Cost:
    """Return what a picture costs until it is ready for Ollama."""
    return _in_a_fork(_picture, picture)


def _in_a_fork(prepared: Callable[..., Callable[[], object]], *arguments: object) -> Cost:
    forks = multiprocessing.get_context("forkserver")  # makes this module's imports once, for all tests
    forks.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, forks) as pool:
        return pool.submit(_measured, prepared, *arguments).result(120)


def _body(path: str, body: bytes) -> Callable[[], object]:
    kind: Any = next(route.body for route in ROUTES if route.path == path)
    gateway = create_models(Settings(model="stand-in")).default
    return lambda: parse(kind, body).question().for_ollama(gateway)


def _picture(picture: bytes) -> Callable[[], object]:
    Image.init()
    text = b64encode(picture).decode()
    return lambda: for_model("image", text, Settings())


def _measured(prepared: Callable[..., Callable[[], object]], *arguments: object) -> Cost:
    call, refused = prepared(*arguments), ""
    memory, began = _memory("VmRSS"), sum(os.times()[:4])
    try:
        call()
    except ServiceError as error:
        refused = error.message
    return Cost(refused, sum(os.times()[:4]) - began, _memory("VmHWM") - memory)


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
