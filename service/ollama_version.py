"""The version of Ollama that Sluice installs, and the range that it supports."""

import re

VERSION = "0.32.15"  # installed, in the image and in every test; a test compares other files that name it
OLDEST = "0.32.0"  # the first release with the engine, API and flags that the code relies on
NEWEST = VERSION  # the newest that was tested
# ollama/ollama:VERSION for amd64 and arm64, from its registry.
IMAGE_DIGEST = "sha256:57d60e686821ea81a7748a3ec8141308c8b8f95b27105713954abf7a6529e700"
IMAGE = f"ollama/ollama:{VERSION}@{IMAGE_DIGEST}"


def is_too_old(version: str) -> bool:
    """Say whether a version is older than supported; one that can't be parsed, as of a build from Git, isn't."""
    number = _number(version)
    return number is not None and number < (_number(OLDEST) or ())


def version_note(version: str) -> str | None:
    """Return one line about a version outside the supported range, else None."""
    number = _number(version)
    supported = f"Sluice supports {OLDEST} to {NEWEST}"
    if number is None:
        return f"Ollama's version is {version or 'empty'}, which can't be compared: {supported}"
    if is_too_old(version):
        return f"Ollama {version} is older than supported: {supported}"
    if number > (_number(NEWEST) or ()):
        return f"Ollama {version} is newer than any that was tried: {supported}"
    return None


def _number(version: str) -> tuple[int, ...] | None:
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    number = tuple(int(part) for part in match.groups()) if match else None
    return number if number != (0, 0, 0) else None  # a build without a version
