"""Fields that may hold values of several kinds: how these are told apart, and what is said of any other."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Discriminator, Field, GetCoreSchemaHandler, Tag
from pydantic_core import CoreSchema

Text, List, Word, Object = TypeVar("Text"), TypeVar("List"), TypeVar("Word"), TypeVar("Object")
TextOrList = Annotated[
    Annotated[Text, Tag("text")] | Annotated[List, Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "text"),
]
WordOrObject = Annotated[
    Annotated[Word, Tag("word")] | Annotated[Object, Tag("object")],
    Discriminator(lambda value: "object" if isinstance(value, dict) else "word"),
]


@dataclass(frozen=True)
class ToldBy:
    """Annotates a union of bodies that are told apart by a field of theirs.

    Pydantic's own error quotes what stands in that field, which may be megabytes; this one names what may.
    """

    field: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler(Annotated[source, Field(discriminator=self.field)])
        known = ", ".join(map(repr, schema["choices"]))
        return {**schema, "custom_error_type": "kind", "custom_error_message": f"'{self.field}' must be {known}"}


TOLD_BY_TYPE = ToldBy("type")
