"""From bytes to a checked request: every complaint names the field and what is allowed."""

import base64
import binascii
import contextlib
import io
import json
from typing import Annotated, Any, TypeVar

import imagesize
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from service.errors import ImageTooLarge, InvalidRequest, PromptTooLong
from service.settings import Settings

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
SHOWN = 5  # complaints in one error


class Body(BaseModel):
    """A request body: no unknown field, no silent conversion, and no input in error texts."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]
MaxTokens = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]

Parsed = TypeVar("Parsed", bound=Body)


def parse(kind: type[Parsed], data: bytes) -> Parsed:
    """Return the request in `data` (JSON); raises InvalidRequest with up to five complaints."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            raise InvalidRequest(f"the body is not valid JSON: {errors[0]['msg']}", hint=_example(kind)) from None
        document = json.loads(data)
        complaints = dict.fromkeys(_complaint(document, e["loc"], e["type"], e["msg"]) for e in errors)
        raise InvalidRequest("; ".join(list(complaints)[:SHOWN]), hint=_example(kind)) from None


def _example(kind: type[Body]) -> str:
    return "fields: " + ", ".join(kind.model_fields)


def _complaint(document: Any, loc: tuple[int | str, ...], kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        message = "is not supported"
    if kind == "union_tag_invalid":  # pydantic's own sentence quotes the input
        message = f"{message.rpartition('using ')[2].partition(' does')[0]} must be {message.rpartition(': ')[2]}"
    return f"{field_name(document, loc)}: {message.removeprefix('Value error, ')}"


def field_name(document: Any, loc: tuple[int | str, ...]) -> str:
    """Return a path such as `messages[0].content` for pydantic's location, without the names of union branches."""
    name = ""
    for position, step in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(step, int):
            name += f"[{step}]"
        elif (last and isinstance(document, dict)) or (isinstance(document, dict) and step in document):
            name += f".{step}" if name else step
        else:
            continue
        with contextlib.suppress(KeyError, IndexError, TypeError):
            document = document[step]
    return name or "body"


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def check_length(field: str, text: str, settings: Settings) -> None:
    """Refuse text over MAX_PROMPT_CHARS; raises PromptTooLong."""
    if len(text) > settings.max_prompt_chars:
        raise PromptTooLong(f"{field}: {len(text)} characters; at most {settings.max_prompt_chars} are allowed")


def check_max_tokens(field: str, wanted: int | None, settings: Settings) -> None:
    """Refuse an answer longer than MAX_TOKENS; raises InvalidRequest."""
    if wanted is not None and wanted > settings.max_tokens:
        raise InvalidRequest(f"{field}: {wanted} is too many; at most {settings.max_tokens} are allowed")


def check_image(field: str, data: str, settings: Settings) -> str:
    """Return base64 image data that is a PNG or JPEG of at most MAX_IMAGE_PIXELS, by its header alone.

    Raises InvalidRequest or ImageTooLarge. An address is never fetched.
    """
    if "://" in data[:16]:
        raise InvalidRequest(f"{field}: is a URL, which is never fetched", hint="send the image itself, in base64")
    try:
        image = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{field}: is not base64") from None
    width, height = imagesize.get(io.BytesIO(image)) if image.startswith(SIGNATURES) else (-1, -1)
    if width < 1 or height < 1:
        raise InvalidRequest(f"{field}: is not a PNG or JPEG image")
    if width * height > settings.max_image_pixels:
        message = f"{field}: {width} by {height} pixels; at most {settings.max_image_pixels} are allowed"
        raise ImageTooLarge(message, hint="scale it down: models look at less than one megapixel")
    return data


def check_images(fields: dict[str, str], settings: Settings, capabilities: frozenset[str]) -> list[str]:
    """Return the base64 data of a request's images, by field name, all checked; raises InvalidRequest."""
    if fields and capabilities and "vision" not in capabilities:
        raise InvalidRequest(f"{next(iter(fields))}: {settings.model} can't see images")
    if len(fields) > settings.max_images:
        raise InvalidRequest(f"{next(iter(fields))}: {len(fields)} images; at most {settings.max_images} are allowed")
    return [check_image(field, data, settings) for field, data in fields.items()]
