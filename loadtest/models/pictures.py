"""Pictures whose content is known: coloured shapes, so many of them, or a word. As PNG, 336 × 336."""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from testbed.pictures import encoded

SIZE = 336  # pixels; what vision towers of the CLIP family see
PAPER, INK = (255, 255, 255), (0, 0, 0)
COLOURS = {"red": (220, 30, 30), "green": (20, 150, 50), "blue": (30, 60, 220), "yellow": (250, 210, 20), "black": INK}


def draw(picture: Mapping[str, Any]) -> bytes:
    """Return the PNG of {"text": …}, or of {"shape", "color", "count"}, count being 1 to 9."""
    image = Image.new("RGB", (SIZE, SIZE), PAPER)
    pen = ImageDraw.Draw(image)
    if text := picture.get("text"):
        font = ImageFont.load_default(1.4 * SIZE / (len(text) + 1))  # about as large as fits
        pen.text((SIZE / 2, SIZE / 2), text, INK, font, anchor="mm")
    else:
        _shapes(pen, picture["shape"], COLOURS[picture["color"]], picture.get("count", 1))
    return encoded(image)


def _shapes(pen: ImageDraw.ImageDraw, shape: str, colour: tuple[int, int, int], count: int) -> None:
    """Draw `count` shapes in the cells of a grid, from the top left."""
    side = 1 if count == 1 else 2 if count <= 4 else 3
    cell, radius = SIZE / side, SIZE / side * 0.35
    for index in range(count):
        x, y = (index % side + 0.5) * cell, (index // side + 0.5) * cell
        if shape == "circle":
            pen.circle((x, y), radius, colour)
        elif shape == "square":
            pen.rectangle((x - 0.9 * radius, y - 0.9 * radius, x + 0.9 * radius, y + 0.9 * radius), colour)
        else:
            base = y + 0.9 * radius
            pen.polygon(((x, y - 0.9 * radius), (x + 0.9 * radius, base), (x - 0.9 * radius, base)), colour)
