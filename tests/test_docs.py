from dataclasses import fields
from pathlib import Path

from service.dialects.generate import GenerateBody
from service.dialects.openai_chat_body import ChatBody
from service.dialects.openai_embeddings import EmbeddingsBody
from service.errors import ServiceError
from service.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"


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


def test_every_field_of_the_api_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    for body in (GenerateBody, ChatBody, EmbeddingsBody):
        for field in body.model_fields:
            assert f"`{field}`" in text, field
