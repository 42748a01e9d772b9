"""Checks JSON values against JSON schemas: a program, which starts fast because it imports nothing else.

Both come from callers, and some schemas take unlimited time or memory to check; a process can have limits on both.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs

MAX_SECONDS = 1  # of CPU
MAX_MEMORY = 32 << 20  # of address space, in addition to what the process has at its start
SHOWN = 200  # characters of a path


def complaint(schema: Any, values: list[Any]) -> str:
    """Return what is wrong with the schema, or with the first value that doesn't fit it; "" if nothing is.

    It names places and keywords, and never quotes a value.
    """
    try:
        validator = jsonschema_rs.validator_for(schema, validate_formats=True, retriever=_fetch_nothing)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        return f"is no valid JSON schema{_place(getattr(error, 'instance_path', []))}"
    for value in values:
        for missed in validator.iter_errors(value):
            words = [step for step in missed.schema_path if isinstance(step, str)]
            return f"doesn't fit `{words[-1] if words else 'false'}`{_place(missed.instance_path)}"
    return ""


def _fetch_nothing(uri: str) -> Any:
    raise ValueError(uri)


def _place(path: list[str | int]) -> str:
    return f" at /{'/'.join(map(str, path))}"[:SHOWN] if path else ""


def main() -> None:
    """Read a list of `[schema, values]` from stdin, and write a list of complaints as JSON."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    json.dump([complaint(schema, values) for schema, values in json.load(sys.stdin.buffer)], sys.stdout)


if __name__ == "__main__":
    main()
