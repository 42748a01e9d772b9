"""The one version of Ollama: what is said about others, and that every file which names it agrees."""

import re

import pytest

from launcher import ollama_sources
from service.ollama_version import IMAGE, NEWEST, OLDEST, VERSION, is_too_old, version_note
from testbed import ROOT
from testbed.stand_in import StandIn
from tests.support.runner import WORKFLOWS


@pytest.mark.parametrize("version", [OLDEST, NEWEST, VERSION, f"v{VERSION}", f"{VERSION}-rc1", "0.32.9"])
def test_a_supported_version_is_not_worth_a_word(version: str) -> None:
    assert version_note(version) is None
    assert not is_too_old(version)


@pytest.mark.parametrize(
    ("version", "words", "too_old"),
    [
        ("0.17.4", "Ollama 0.17.4 is older than supported", True),
        ("0.9.9", "Ollama 0.9.9 is older than supported", True),
        ("0.32.16", "Ollama 0.32.16 is newer than any that was tried", False),
        ("1.0.0", "Ollama 1.0.0 is newer than any that was tried", False),
        ("0.0.0", "Ollama's version is 0.0.0, which can't be compared", False),
        ("", "Ollama's version is empty, which can't be compared", False),
    ],
)
def test_any_other_version_gets_one_line_with_the_range(version: str, words: str, too_old: bool) -> None:
    warning = version_note(version)
    assert warning == f"{words}: Sluice supports {OLDEST} to {NEWEST}"
    assert is_too_old(version) is too_old


def test_image_and_weights_start_from_that_version_by_digest() -> None:
    assert re.search(r"^ARG OLLAMA_IMAGE=(.+)$", (ROOT / "service/Dockerfile").read_text(), re.MULTILINE)[1] == IMAGE
    assert f"\n  OLLAMA_IMAGE: {IMAGE}\n" in (WORKFLOWS / "models.yml").read_text()
    assert re.fullmatch(r"ollama/ollama:[\d.]+@sha256:[0-9a-f]{64}", IMAGE)


def test_the_stand_in_says_that_it_is_that_version() -> None:
    assert StandIn().version == VERSION


def test_the_readme_names_it() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"({VERSION}, " in readme
    assert f"Sluice supports Ollama {OLDEST} to {NEWEST};" in readme


def test_the_sources_are_that_version() -> None:
    assert ollama_sources.MODULE.endswith(f"@v{VERSION}")
    assert ollama_sources.LLAMA_CPP.endswith(f"=={ollama_sources.LLAMA_CPP_TAG.removeprefix('b')}.0.0")
