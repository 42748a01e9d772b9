"""Pictures to send, and those that the model got."""

import base64
import io
import struct
from typing import Any

from PIL import Image


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def base64_of(file: bytes) -> str:
    """Return a file as JSON has it."""
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


def _bits(*numbers: tuple[int, int]) -> str:
    """Return numbers, each with how many bits it has, as WebP writes them: the lowest bit first."""
    return "".join(f"{number:0{count}b}"[::-1] for number, count in numbers)


ONE_SYMBOL = _bits((1, 1), (0, 1), (0, 1), (0, 1))  # a prefix code for nothing but 0
LENGTHS = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8)  # the order in which the lengths of code lengths' codes stand


def webp_with_many_codes(side: int) -> bytes:
    """Return a lossless WebP in one colour that has prefix codes of its own for each 4 by 4 pixels.

    The format: RFC 9649, 3. libwebp keeps tables of 6 kB for each.
    """
    tiles = (side // 4) ** 2
    lengths = [(int(length in (0, 8)), 3) for length in LENGTHS]
    bits = [_bits((0x2F, 8), (side - 1, 14), (side - 1, 14), (0, 1), (0, 3), (0, 2), (1, 1), (0, 3), (0, 1))]
    for alphabet in (280, 256):  # of which the first 256 have 8 bits each
        used = [(int(symbol < 256), 1) for symbol in range(alphabet)]
        bits.append(_bits((0, 1), (len(LENGTHS) - 4, 4), *lengths, (0, 1), *used))
    bits.append(ONE_SYMBOL * 3)
    bits += [f"{tile & 255:08b}{tile >> 8:08b}" for tile in range(tiles)]
    bits.append(ONE_SYMBOL * 5 * tiles)
    whole = "".join(bits)
    data = int(whole[::-1], 2).to_bytes((len(whole) // 16 + 1) * 2, "little")
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
