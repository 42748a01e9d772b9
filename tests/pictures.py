"""Pictures to send, and those that the model got."""

import base64
import io
from typing import Any

from PIL import Image


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def base64_of(file: bytes) -> str:
    return base64.b64encode(file).decode()


def png(width: int, height: int) -> str:
    """Return a black PNG in base64."""
    return base64_of(encoded(Image.new("1", (width, height))))


def picture_of(text: str) -> Image.Image:
    """Return the picture in base64 that was sent on, decoded."""
    picture = Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG", "JPEG"])
    picture.load()
    return picture


def taken_image(message: dict[str, Any]) -> Image.Image:
    """Take the one image out of a message for Ollama, and return it."""
    [image] = message.pop("images")
    return picture_of(image)
