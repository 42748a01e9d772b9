import io
from typing import Any

import pytest
from PIL import Image, ImageChops

from loadtest.models.pictures import COLOURS, PAPER, SIZE, draw


def drawn(picture: dict[str, Any]) -> Image.Image:
    image = Image.open(io.BytesIO(draw(picture)))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (SIZE, SIZE))
    return image


def test_a_shape_has_its_colour_inside_and_paper_outside() -> None:
    for shape in ("circle", "square", "triangle"):
        image = drawn({"shape": shape, "color": "green"})
        assert image.getpixel((SIZE // 2, SIZE // 2)) == COLOURS["green"]
        assert image.getpixel((3, 3)) == PAPER
    corner = SIZE // 2 - int(SIZE * 0.35 * 0.85)
    shapes = [drawn({"shape": each, "color": "red"}) for each in ("circle", "square", "triangle")]
    assert [each.getpixel((corner, corner)) == PAPER for each in shapes] == [True, False, True]
    assert shapes[2].getpixel((corner, SIZE - corner)) == COLOURS["red"]  # its base is below


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_as_many_shapes_are_drawn_as_are_asked_for(count: int) -> None:
    image = drawn({"shape": "square", "color": "blue", "count": count})
    side = 1 if count == 1 else 2 if count <= 4 else 3
    centres = [int((index + 0.5) * SIZE / side) for index in range(side)]
    assert sum(image.getpixel((x, y)) == COLOURS["blue"] for x in centres for y in centres) == count


@pytest.mark.parametrize("text", ["STOP", "CAFE", "427"])
def test_text_is_written_in_ink_in_the_middle_and_as_large_as_fits(text: str) -> None:
    left, top, right, bottom = ImageChops.invert(drawn({"text": text}).convert("L")).getbbox() or (0, 0, 0, 0)
    assert 0 < left < right < SIZE
    assert right - left > SIZE // 2
    assert abs(left + right - SIZE) < 12
    assert abs(top + bottom - SIZE) < 24


def test_a_word_is_drawn_as_its_letters() -> None:
    """T has a bar at the top and a stem in the middle."""
    image = drawn({"text": "T"}).convert("1")
    left, top, right, bottom = ImageChops.invert(image).getbbox() or (0, 0, 0, 0)
    middle = (left + right) // 2
    assert not any(image.getpixel((x, top + 3)) for x in range(left + 2, right - 2))
    assert not any(image.getpixel((middle, y)) for y in range(top + 2, bottom - 2))
    assert image.getpixel((left + 2, bottom - 2)) and image.getpixel((right - 3, bottom - 2))
