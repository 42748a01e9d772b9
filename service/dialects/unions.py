"""Fields with values of several kinds: how the kinds are distinguished, and the error for any other."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Text = TypeVar("Text")
List = TypeVar("List")
Word = TypeVar("Word")
Object = TypeVar("Object")
TextOrList = Annotated[
    Annotated[Text, Tag("text")] | Annotated[List, Tag("list")],
    Discriminator(
        lambda value: "list" if isinstance(value, list) else "text" if isinstance(value, str) else None,
        custom_error_type="kind",
        custom_error_message="must be a text or a list",
    ),
]
WordOrObject = Annotated[
    Annotated[Word, Tag("word")] | Annotated[Object, Tag("object")],
    Discriminator(lambda value: "object" if isinstance(value, dict) else "word"),
]


def or_else(other: str) -> WrapValidator:
    """Return a validator of the words in a WordOrObject, whose error says what else is allowed."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            words = error.errors(include_url=False)[0]["ctx"]["expected"]
            raise ValueError(f"must be {words}, or {other}") from None

    return WrapValidator(check)


@dataclass(frozen=True)
class ToldBy:
    """Annotates a union of bodies that a field of theirs distinguishes.

    Pydantic's own error quotes the field's value, which may be megabytes; this one only names the valid values. Even
    so, pydantic copies the value several times: what is longer than any valid one doesn't get there.
    """

    field: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler(Annotated[source, Field(discriminator=self.field)])
        known = ", ".join(map(repr, schema["choices"]))
        error, longest = f"'{self.field}' must be {known}", max(map(len, schema["choices"]))

        def short(value: Any) -> Any:
            told = value.get(self.field) if isinstance(value, dict) else None
            if isinstance(told, str) and len(told) > longest:
                raise PydanticCustomError("kind", error)
            return value

        union: Any = {**schema, "custom_error_type": "kind", "custom_error_message": error}
        return core_schema.no_info_before_validator_function(short, union)


TOLD_BY_TYPE = ToldBy("type")
