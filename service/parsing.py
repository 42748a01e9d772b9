"""From bytes to a validated request: every error names the field and what is allowed."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError

from service.complaints import Unknown, complaints
from service.errors import InvalidRequest, PromptTooLong
from service.images import ALL_IMAGES, Work, for_model
from service.json_input import read_json
from service.ollama import SEES
from service.settings import Settings

LONGEST_NAME = 256  # characters
FORM = "content-disposition:"
NOT_BLANK = re.compile(r"\S")
NULL = {"type": "null"}
IGNORED = "Accepted; changes no answer."


class Body(BaseModel):
    """A request body, or an object in one: no unknown fields, no silent conversion, and no input in error texts.

    A null field counts as not sent. refused: why a field isn't supported, if there is more to say.
    """

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)
    example: ClassVar[str] = ""  # what to send instead, for the error
    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _sent(cls, fields: Any) -> Any:
        """Leave nulls out, and have the errors for unknown fields tell the known ones."""
        if isinstance(fields, dict):
            other = _unknown(cls)
            return {
                name: value if name in other.names else other for name, value in fields.items() if value is not None
            }
        return fields

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        fields, required = (handler.resolve_ref_schema(schema).get(name, {}) for name in ("properties", "required"))
        fields |= {name: or_null(field) for name, field in fields.items() if name not in required}
        return schema


@cache
def _unknown(body: type[Body]) -> Unknown:
    return Unknown(tuple(field.alias or name for name, field in body.model_fields.items()), body.refused)


def or_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Return the JSON schema of a field that may also be null."""
    told = {word: value for word, value in schema.items() if word in ("title", "description", "default")}
    inner = {word: value for word, value in schema.items() if word not in told}
    if not inner or NULL in inner.get("anyOf", ()):
        return schema
    return {"anyOf": [inner, NULL], **told}


def _not_blank(text: str) -> str:
    if not NOT_BLANK.search(text):  # strip() would copy megabytes
        raise ValueError("must not be empty")
    return text


def _short(name: Any) -> Any:
    if isinstance(name, str) and len(name) > LONGEST_NAME:  # pydantic would copy megabytes before it counts them
        raise PydanticKnownError("string_too_long", {"max_length": LONGEST_NAME})
    return name


Item = TypeVar("Item")
# A list whose validation ends at the first invalid item.
Items = Annotated[list[Item], Field(fail_fast=True)]
Text = Annotated[str, AfterValidator(_not_blank), Field(min_length=1, json_schema_extra={"pattern": r"\S"})]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), BeforeValidator(_short)]
# A field that affects no answer: any value is accepted, and none is passed on, or kept while the request waits.
Ignored = Annotated[
    Any, BeforeValidator(lambda _: None), Field(default=None, json_schema_extra={"description": IGNORED})
]
Image = Annotated[str, Field(json_schema_extra={"format": "base64-image"})]
# JSON has one type of number, so 5.0 is a whole number too.
WHOLE = BeforeValidator(lambda n: int(n) if isinstance(n, float) and n.is_integer() else n)
MaxTokens = Annotated[int, Field(ge=1), WHOLE]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=0, lt=2**31), WHOLE]
StopWord = Annotated[str, Field(min_length=1, max_length=1000)]
Stop = Annotated[Items[StopWord], Field(max_length=4)]

Parsed = TypeVar("Parsed", bound=Body)


def parse(kind: type[Parsed], data: bytes) -> Parsed:
    """Return the request in `data` (JSON); raises InvalidRequest with up to five complaints."""
    document = _document(kind, data)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(complaints(document, error.errors(include_url=False))) from None


def _document(kind: type[Body], data: bytes) -> dict[str, Any]:
    """Return the object in `data`; the error for what isn't JSON at all says what it looks like."""
    start = data[:300].strip().lower()
    if start[:2] == b"--" and FORM.encode() in start:
        raise InvalidRequest("body: is a multipart form", hint=kind.example)
    if not start or (b"=" in start and start[:1] not in b'{["' and start.isascii()):
        what = "looks like a web form" if start else "is empty"
        raise InvalidRequest(f"body: {what}", hint=kind.example)
    try:
        document = read_json(data)
    except InvalidRequest as error:
        error.hint = error.hint or kind.example
        raise
    if not isinstance(document, dict):
        raise InvalidRequest("body: must be a JSON object", hint=kind.example)
    return document


def drop_none(**fields: Any) -> dict[str, Any]:
    """Return the fields that aren't None."""
    return {name: value for name, value in fields.items() if value is not None}


def check_size(fields: Iterable[tuple[str, int]], settings: Settings) -> None:
    """Refuse fields, by name and size, with more than MAX_PROMPT_CHARS characters in all; raises PromptTooLong."""
    sizes = sorted(fields, key=lambda field: -field[1])
    total = sum(size for _name, size in sizes)
    if total > settings.max_prompt_chars:
        name, size = sizes[0]
        rest = f", {total} with the other fields" if total > size else ""
        limit = f"at most {settings.max_prompt_chars} are allowed"
        raise PromptTooLong(f"{name}: {size} characters{rest}; {limit}", hint="shorten it")


def check_images(fields: dict[str, str], settings: Settings, capabilities: frozenset[str]) -> list[str]:
    """Return a request's images as the model gets them. Raises InvalidRequest, ImageTooLarge or Saturated.

    fields: the images as sent, by field name; emptied, to release their memory.
    """
    if fields and capabilities and SEES not in capabilities:
        raise InvalidRequest(f"{next(iter(fields))}: {settings.model} can't see images")
    if len(fields) > settings.max_images:
        raise InvalidRequest(f"{next(iter(fields))}: {len(fields)} images; at most {settings.max_images} are allowed")
    limit, work = ALL_IMAGES // max(1, len(fields)), Work(settings)
    return [for_model(field, fields.pop(field), settings, limit, work) for field in list(fields)]
