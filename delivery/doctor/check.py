"""What a check is, and what it looks at."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.request import Request, urlopen

from config import Stage
from context import Context

Object = dict[str, Any]


class Unreachable(OSError):
    """kubectl failed; the message is what it says."""


def kubectl(*arguments: str) -> Any:
    """Return what a kubectl command prints as JSON. Raises Unreachable."""
    command = ["kubectl", "--request-timeout", "10s", *arguments, "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise Unreachable("kubectl is missing: https://kubernetes.io/docs/tasks/tools/") from None
    if done.returncode:
        raise Unreachable((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return json.loads(done.stdout)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is looked at. client: of an AWS service by its name, as boto3's. github: the URL of GitHub's API.

    kubectl: runs a command on the stage's cluster, see above. url: where the stage answers, if not at its address.
    resolver: where DNS is asked over HTTPS, for JSON.
    """

    stage: Stage
    context: Context
    client: Callable[[str], Any]
    github: str = "https://api.github.com"
    kubectl: Callable[..., Any] = kubectl
    url: str = ""
    resolver: str = "https://dns.google/resolve"


@dataclass(frozen=True)
class Check:
    """A name, and what yields a sentence for each problem. vital: where it finds one, the others can't look."""

    name: str
    find: Callable[[Patient], Iterator[str]]
    vital: bool = False


def ask_github(patient: Patient, path: str) -> Any:
    """Return what GitHub's API answers, to whoever GH_TOKEN belongs to. Raises HTTPError."""
    token = os.environ.get("GH_TOKEN")
    headers = {"Accept": "application/vnd.github+json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return get_json(f"{patient.github}{path}", headers)


def get_json(url: str, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
    """Return what a URL answers. Raises HTTPError."""
    request = Request(url, headers=dict(headers))  # noqa: S310 - https, or a test's own server
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)
