import struct
import zlib

import pytest

from models.pictures import COLOURS, INK, PAPER, SIZE, draw


def pixels(picture: bytes) -> list[bytes]:
    """Decode a PNG of ours into its rows, checking each chunk."""
    at, data = 8, b""
    while at < len(picture):
        size, kind = struct.unpack(">I4s", picture[at : at + 8])
        body = picture[at + 8 : at + 8 + size]
        assert struct.unpack(">I", picture[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            assert struct.unpack(">IIBBBBB", body) == (SIZE, SIZE, 8, 2, 0, 0, 0)
        data += body if kind == b"IDAT" else b""
        at += 12 + size
    lines = zlib.decompress(data)
    step = 1 + 3 * SIZE
    assert len(lines) == SIZE * step
    return [lines[row * step + 1 : (row + 1) * step] for row in range(SIZE)]


def pixel(rows: list[bytes], x: int, y: int) -> tuple[int, ...]:
    return tuple(rows[y][3 * x : 3 * x + 3])


def test_a_shape_has_its_colour_inside_and_paper_outside() -> None:
    for shape in ("circle", "square", "triangle"):
        rows = pixels(draw({"shape": shape, "color": "green"}))
        assert pixel(rows, SIZE // 2, SIZE // 2) == COLOURS["green"]
        assert pixel(rows, 3, 3) == PAPER
    corner = SIZE // 2 - int(SIZE * 0.35 * 0.85)
    circle, square, triangle = (
        pixels(draw({"shape": each, "color": "red"})) for each in ("circle", "square", "triangle")
    )
    assert [pixel(each, corner, corner) == PAPER for each in (circle, square, triangle)] == [True, False, True]
    assert pixel(triangle, corner, SIZE - corner) == COLOURS["red"]  # its base is below


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_as_many_shapes_are_drawn_as_are_asked_for(count: int) -> None:
    rows = pixels(draw({"shape": "square", "color": "blue", "count": count}))
    side = 1 if count == 1 else 2 if count <= 4 else 3
    centres = [int((index + 0.5) * SIZE / side) for index in range(side)]
    assert sum(pixel(rows, x, y) == COLOURS["blue"] for x in centres for y in centres) == count


def test_text_is_written_in_ink() -> None:
    rows = pixels(draw({"text": "T"}))
    scale = SIZE // 9
    left, top = (SIZE - 5 * scale) // 2, (SIZE - 7 * scale) // 2
    at = [[pixel(rows, left + x * scale + 2, top + y * scale + 2) == INK for x in range(5)] for y in range(7)]
    assert at == [[True] * 5] + [[False, False, True, False, False]] * 6
