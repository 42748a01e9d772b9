"""Pictures whose content is known, drawn here: coloured shapes, so many of them, or a word. As PNG, 336 × 336."""

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

SIZE = 336  # pixels; what vision towers of the CLIP family see
PAPER = (255, 255, 255)
INK = (0, 0, 0)
COLOURS = {
    "red": (220, 30, 30),
    "green": (20, 150, 50),
    "blue": (30, 60, 220),
    "yellow": (250, 210, 20),
    "black": INK,
}
# Is a point, from -1 to 1 in both directions with y downwards, inside the shape?
SHAPES: dict[str, Callable[[float, float], bool]] = {
    "circle": lambda x, y: x * x + y * y <= 1,
    "square": lambda x, y: max(abs(x), abs(y)) <= 0.9,
    "triangle": lambda x, y: y <= 0.9 and 2 * abs(x) <= 0.9 + y,
}
# Letters and digits of 5 × 7, a row of bits a line; only what the questions use.
GLYPHS = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "7": (31, 1, 2, 4, 8, 8, 8),
}
Canvas = list[bytearray]  # a row of pixels, three bytes each


def draw(picture: Mapping[str, Any]) -> bytes:
    """Return the PNG of {"text": …}, or of {"shape", "color", "count"}, count being 1 to 9."""
    canvas = [bytearray(bytes(PAPER) * SIZE) for _ in range(SIZE)]
    if "text" in picture:
        _write(canvas, picture["text"])
    else:
        _shapes(canvas, SHAPES[picture["shape"]], COLOURS[picture["color"]], picture.get("count", 1))
    return png(canvas)


def _shapes(canvas: Canvas, inside: Callable[[float, float], bool], colour: tuple[int, int, int], count: int) -> None:
    """Draw `count` shapes in the cells of a grid, from the top left."""
    side = 1 if count == 1 else 2 if count <= 4 else 3
    cell, radius = SIZE / side, SIZE / side * 0.35
    for index in range(count):
        across, down = (index % side + 0.5) * cell, (index // side + 0.5) * cell
        for y in range(int(down - radius), int(down + radius) + 1):
            for x in range(int(across - radius), int(across + radius) + 1):
                if inside((x - across) / radius, (y - down) / radius):
                    canvas[y][3 * x : 3 * x + 3] = bytes(colour)


def _write(canvas: Canvas, text: str) -> None:
    """Write a line of text in the middle, as large as fits."""
    scale = min(SIZE // (6 * len(text) + 1), SIZE // 9)
    left, top = (SIZE - (6 * len(text) - 1) * scale) // 2, (SIZE - 7 * scale) // 2
    for index, letter in enumerate(text):
        for row, bits in enumerate(GLYPHS[letter]):
            for column in range(5):
                if bits >> (4 - column) & 1:
                    x, y = left + (6 * index + column) * scale, top + row * scale
                    for line in canvas[y : y + scale]:
                        line[3 * x : 3 * (x + scale)] = bytes(INK) * scale


def png(canvas: Canvas) -> bytes:
    """Return a PNG of 8 bits a channel, RGB."""
    head = struct.pack(">IIBBBBB", len(canvas[0]) // 3, len(canvas), 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in canvas), 9)  # 0: rows as they are
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
