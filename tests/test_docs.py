from dataclasses import fields

from service.dialects.field_lists import BEGIN, END, written
from service.errors import ServiceError
from service.settings import Settings
from testbed import ROOT

DOCS = ROOT / "docs"


def test_every_setting_is_in_the_table_as_the_code_has_it() -> None:
    rows = [line.split(" | ") for line in (DOCS / "settings.md").read_text().splitlines() if line.startswith("| `")]
    documented = [(row[0].strip("|` "), row[1].strip("` "), row[2].strip("| ")) for row in rows]
    assert documented == [(f.name.upper(), str(f.default), f.metadata["doc"]) for f in fields(Settings)]


def test_every_error_is_in_the_table_with_its_status() -> None:
    text = (DOCS / "api.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for kind in ServiceError.__subclasses__():
        assert f"`{kind.code}`" in text
        if kind.__module__ == "service.errors":
            assert any(str(kind.status) in row and f"`{kind.code}`" in row for row in rows), kind


def test_the_fields_of_every_route_are_listed_as_the_code_has_them() -> None:
    page = (DOCS / "api.md").read_text()
    assert written(page) == page, "run python -m service.dialects.field_lists"
    assert page.count(BEGIN) == page.count(END) == 1
