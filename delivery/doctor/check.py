from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from config import Stage
from context import Context


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is looked at. client: of an AWS service by its name, as boto3's. github: the URL of GitHub's API."""

    stage: Stage
    context: Context
    client: Callable[[str], Any]
    github: str = "https://api.github.com"


@dataclass(frozen=True)
class Check:
    """A name, and what yields a sentence for each problem. vital: where it finds one, the others can't look."""

    name: str
    find: Callable[[Patient], Iterator[str]]
    vital: bool = False
