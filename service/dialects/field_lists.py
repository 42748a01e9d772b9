"""`python -m service.dialects.field_lists` writes the fields of each route's body into docs/api.md."""

import re
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from service.dialects.ollama_body import Options
from service.openapi import ROUTES
from service.parsing import IGNORED, Body

PAGE = Path(__file__).parent.parent.parent / "docs" / "api.md"
BEGIN, END = "<!-- fields -->", "<!-- end of fields -->"
HEAD = """| Route | Fields | Accepted, and change no answer |
|---|---|---|
"""


def table() -> str:
    """Return a table with a row for each route with a body, and for Ollama's options."""
    bodies = {f"`{route.method} {route.path}`": route.body for route in ROUTES if route.body is not None}
    bodies["`options` under `/api`"] = Options
    return HEAD + "".join(_row(name, body) for name, body in bodies.items())


def _row(name: str, body: type[Body]) -> str:
    return f"| {name} | {_names(body, ignored=False)} | {_names(body, ignored=True)} |\n"


def _names(body: type[Body], *, ignored: bool) -> str:
    fields = {name: field for name, field in body.model_fields.items() if _is_ignored(field) == ignored}
    return ", ".join(f"`{name}`{_only(field)}" for name, field in sorted(fields.items()))


def _is_ignored(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("description") == IGNORED  # not FieldInfo.description: see _only()


def _only(field: FieldInfo) -> str:
    """Return the only value that a field may have, if it is restricted to one."""
    if field.description:
        return f" (`{field.description}`)"
    values = [value for kind in _alternatives(field.annotation) for value in get_args(kind)]
    is_literal = all(get_origin(kind) is Literal for kind in _alternatives(field.annotation))
    return f" (`{str(values[0]).lower()}`)" if is_literal and len(values) == 1 else ""


def _alternatives(kind: Any) -> list[Any]:
    inner = [each for each in get_args(kind) if each is not NoneType]
    return inner if inner and get_origin(kind) is not Literal else [kind]


def written(page: str) -> str:
    """Return the page with a new table."""
    return re.sub(f"(?s){BEGIN}.*{END}", f"{BEGIN}\n{table()}{END}", page)


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
