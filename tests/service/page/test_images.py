"""Images on the page: how they are added, converted, made to fit, and sent again in a conversation."""

import base64
import json
import struct
from io import BytesIO

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.page import Gateway, Open, answered, ask, button, converse, decoded, expect_state, hand_over, png


def bmp(width: int, height: int) -> bytes:
    """Return a black BMP; `width` is a multiple of 4."""
    pixels = bytes(3 * width * height)
    return struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + len(pixels), 0, 54, 40, width, height, 1, 24, *[0] * 6) + pixels


def sent_image(page: Page, gateway: Gateway) -> bytes:
    """Send a prompt with what is attached; return the one image that the server got."""
    gateway.answers.put(answered("A thing."))
    expect_state(ask(page, "What is this?"), "done")
    [(_, [text, image])] = gateway.messages
    assert text == {"type": "text", "text": "What is this?"}
    return decoded(image)


@pytest.mark.parametrize("how", ["drop", "paste", "pick"])
def test_png_goes_to_the_server_as_it_is(open_page: Open, how: str) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    image = png(20, 10)
    if how == "pick":
        page.get_by_label("Image files").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": image})
    else:
        hand_over(page, how, ("a.png", "image/png", image))
    expect(page.get_by_role("listitem")).to_contain_text("a.png")
    assert sent_image(page, gateway) == image


@pytest.mark.parametrize(
    ("name", "kind", "data", "size"),
    [
        ("a.webp", "image/webp", base64.b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA"), (1, 1)),
        ("a.svg", "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>', (40, 30)),
        ("bmp.png", "image/png", bmp(8, 6), (8, 6)),  # the content decides, not the name
    ],
)
def test_other_types_become_jpeg(open_page: Open, name: str, kind: str, data: bytes, size: tuple[int, int]) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    hand_over(page, "drop", (name, kind, data))
    expect(page.get_by_role("listitem")).to_contain_text(f"{size[0]} × {size[1]} JPEG")
    image = sent_image(page, gateway)
    assert image.startswith(b"\xff\xd8\xff")
    assert Image.open(BytesIO(image)).size == size


def test_image_with_too_many_pixels_is_scaled_down(open_page: Open) -> None:
    gateway = Gateway(max_image_pixels=5000)
    page = open_page(gateway)
    hand_over(page, "drop", ("big.png", "image/png", png(200, 100)))
    expect(page.get_by_role("listitem")).to_contain_text("100 × 50 JPEG")
    assert Image.open(BytesIO(sent_image(page, gateway))).size == (100, 50)


def test_images_are_made_to_fit_the_request(open_page: Open) -> None:
    limit = 60_000
    gateway = Gateway(max_body_bytes=limit)
    page = open_page(gateway)
    small = png(30, 30, noise=True)
    big = png(300, 300, noise=True)
    hand_over(page, "drop", ("small.png", "image/png", small), ("big.png", "image/png", big))
    expect(page.get_by_role("listitem")).to_have_count(2)
    converse(page, gateway, ("é" * 5000, "Yes"))
    assert len(json.dumps(gateway.sent, ensure_ascii=False).encode()) < limit
    [(_, [_, *parts])] = gateway.messages
    first, second = map(decoded, parts)
    assert first == small
    width, height = Image.open(BytesIO(second)).size
    assert second.startswith(b"\xff\xd8\xff") and width == height and 64 < int(width) < 300


def test_file_that_is_no_image_is_refused_in_words(open_page: Open) -> None:
    page = open_page(Gateway())
    hand_over(page, "drop", ("notes.png", "image/png", b"not an image"))
    expect(page.get_by_role("alert")).to_have_text("notes.png can’t be read as an image.")
    expect(page.get_by_role("listitem")).to_have_count(0)


def test_images_can_be_removed_and_have_a_limit(open_page: Open) -> None:
    page = open_page(Gateway(max_images=1))
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)), ("b.png", "image/png", png(2, 2)))
    expect(page.get_by_role("alert")).to_have_text("At most 1 image can go into one request.")
    page.get_by_role("button", name="Remove a.png").click()
    expect(page.get_by_role("listitem")).to_have_count(0)


def test_image_alone_asks_for_a_description(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)))
    expect(page.get_by_role("listitem")).to_have_count(1)
    gateway.answers.put(answered("White."))
    button(page, "Send").click()
    turn = page.locator(".turn")
    expect_state(turn, "done")
    [(_, [text, _])] = gateway.messages
    assert text["text"] == "Describe this image."
    expect(turn.locator(".question-text")).to_have_text("Describe this image.")
    expect(turn.get_by_role("img", name="a.png")).to_be_visible()


def test_images_of_earlier_turns_are_sent_again_as_far_as_they_may(open_page: Open) -> None:
    gateway = Gateway(max_images=2)
    page = open_page(gateway)
    images = [png(2, height) for height in (2, 3, 4)]
    for number, image in enumerate(images):
        hand_over(page, "drop", (f"{number}.png", "image/png", image))
        expect(page.locator("#images li")).to_have_count(1)
        converse(page, gateway, (f"Q{number}", f"A{number}"))
        expect(page.locator("#images li")).to_have_count(0)
    contents = [content for role, content in gateway.messages if role == "user"]
    assert contents[0] == "Q0"
    assert [decoded(part) for _, part in contents[1:]] == images[1:]
    expect(page.get_by_text("no longer sent").filter(visible=True)).to_have_count(1)
    expect(page.locator(".turn").first.get_by_text("no longer sent")).to_be_visible()


def test_images_of_the_whole_conversation_are_made_to_fit_a_request(open_page: Open) -> None:
    limit = 60_000
    gateway = Gateway(max_body_bytes=limit)
    page = open_page(gateway)
    for number in range(3):
        hand_over(page, "drop", (f"{number}.png", "image/png", png(100, 100, noise=True)))
        expect(page.locator("#images li")).to_have_count(1)
        converse(page, gateway, (f"Q{number}", f"A{number}"))
    assert len(json.dumps(gateway.received[-1][0]).encode()) < limit
    assert sum(isinstance(content, list) for _, content in gateway.messages) == 3


def test_model_without_vision_has_no_image_control(open_page: Open) -> None:
    page = open_page(Gateway(vision=False))
    expect(page.get_by_role("button", name="Options")).to_be_visible()
    expect(page.get_by_role("button", name="Add image")).to_have_count(0)
    expect(page.locator("#hero")).to_contain_text("It reads text.")
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)))
    expect(page.get_by_role("alert")).to_have_text("moondream reads text only.")
