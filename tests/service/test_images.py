import base64
import io
import json
import random
import struct
import zlib
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from config import STAGES
from service.decoding import decoded
from service.errors import ImageTooLarge, InvalidRequest, ServiceError
from service.image_files import read_image_file
from service.images import ALL_IMAGES, for_model
from service.settings import Settings
from testbed.pictures import base64_of, encoded, picture_of, png, webp_with_many_codes
from testbed.stand_in import StandIn
from tests.support.costs import cost_of_picture

SETTINGS = Settings()
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def flag(mode: str = "RGB", size: tuple[int, int] = (200, 100)) -> Image.Image:
    """Return a picture that is red on the left and blue on the right."""
    picture = Image.new("RGB", size, RED)
    ImageDraw.Draw(picture).rectangle((size[0] // 2, 0, *size), fill=BLUE)
    return picture.convert(mode)


def sent(file: bytes, settings: Settings = SETTINGS) -> Image.Image:
    return picture_of(for_model("image", base64_of(file), settings))


def looks_like(pixel: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(pixel, colour, strict=True))


KINDS = {
    "PNG": encoded(flag()),
    "a palette": encoded(flag("P")),
    "transparency": encoded(flag("RGBA")),
    "JPEG": encoded(flag(), "JPEG"),
    "progressive": encoded(flag(), "JPEG", progressive=True),
    "CMYK": encoded(flag("CMYK"), "JPEG"),
    "WebP": encoded(flag(), "WEBP"),
    "WebP without loss": encoded(flag("RGBA"), "WEBP", lossless=True),
    "WebP in motion": encoded(flag(), "WEBP", save_all=True, append_images=[Image.new("RGB", (200, 100))] * 3),
    "GIF": encoded(flag("P"), "GIF"),
    "GIF in motion": encoded(flag("P"), "GIF", save_all=True, append_images=[Image.new("RGB", (200, 100))] * 3),
    "with metadata": encoded(flag(), "WEBP", exif=Image.Exif().tobytes(), icc_profile=b"x" * 99, xmp=b"<x/>"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_reach_the_model_as_they_look(kind: str) -> None:
    picture = sent(KINDS[kind])
    assert (picture.size, picture.mode) == ((200, 100), "RGB")
    assert looks_like(picture.getpixel((20, 50)), RED)
    assert looks_like(picture.getpixel((180, 50)), BLUE)


def test_sixteen_bits_and_grey_keep_their_brightness() -> None:
    deep = Image.new("I;16", (64, 64), 32768)
    assert looks_like(sent(encoded(deep)).getpixel((5, 5)), (128, 128, 128))
    assert looks_like(sent(encoded(Image.new("LA", (64, 64), (100, 255)))).getpixel((5, 5)), (100, 100, 100))


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert sent(encoded(clear)).getpixel((5, 5)) == WHITE
    for kind in ("PNG", "GIF"):
        picture = flag("P")
        half = sent(encoded(picture, kind, transparency=picture.getpixel((20, 50))))
        assert (half.getpixel((20, 50)), looks_like(half.getpixel((180, 50)), BLUE)) == (WHITE, True)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photo_is_set_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = flag()
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transposition that undoes the camera's
    if orientation > 1:
        picture = picture.transpose(Image.Transpose(back[orientation]))
    upright = sent(encoded(picture, kind, exif=exif.tobytes()))
    assert upright.size == (200, 100)
    assert looks_like(upright.getpixel((20, 50)), RED)


def test_a_large_picture_is_scaled_to_what_models_look_at() -> None:
    settings = Settings(max_image_edge=500)
    for file in (encoded(flag(size=(3000, 1500))), encoded(flag(size=(3000, 1500)), "JPEG")):
        picture = sent(file, settings)
        assert picture.size == (500, 250)
        assert looks_like(picture.getpixel((240, 249)), RED)
        assert looks_like(picture.getpixel((260, 0)), BLUE)


def test_a_picture_too_small_or_too_narrow_for_some_models_gets_a_white_frame() -> None:
    assert sent(encoded(Image.new("RGB", (1, 1)))).size == (32, 32)
    narrow = sent(encoded(Image.new("RGB", (4000, 8))))
    assert narrow.size == (1120, 32)
    assert (narrow.getpixel((500, 0)), narrow.getpixel((500, 16))) == (WHITE, (0, 0, 0))


def test_a_photo_without_loss_goes_on_as_jpeg_and_stays_small() -> None:
    noise = Image.effect_noise((1100, 1100), 90).convert("RGB")
    assert len(for_model("image", base64_of(encoded(noise)), SETTINGS)) < 3_000_000


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, bits: int = 8, colours: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced))


PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
FRAME = b"\xff\xc0\x00\x0b\x08"
TWO_FRAMES = b"\xff\xd8" + FRAME + struct.pack(">HH", 26000, 26000) + b"\x01\x01\x11\x00"
TWO_FRAMES += FRAME + struct.pack(">HH", 10, 10) + b"\x01\x01\x11\x00" + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
PHOTO = encoded(flag(), "JPEG")
SCAN = PHOTO.index(b"\xff\xda")
TABLE = b"\xff\xdb\x00\x43\x00" + b"\x01" * 64
BROKEN = {
    "no image": (b"hello, world", "is not a PNG, JPEG, WebP or GIF image"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a PNG, JPEG, WebP or GIF image"),
    "TIFF": (encoded(flag(), "TIFF"), "is not a PNG, JPEG, WebP or GIF image"),
    "two sizes": (TWO_FRAMES, "is a broken image: it has two frame headers"),
    "two headers": (PNG_START + header(9, 9) * 2 + PNG_END, "is a broken image: it has no header, or two"),
    "no pixels": (PNG_START + header(0, 9) + PNG_END, "is a broken image: it has no pixels"),
    "many chunks": (PNG_START + header(9, 9) + chunk(b"tEXt", b"") * 10_001, "more than 10000 chunks"),
    "many passes": (PHOTO[:-2] + PHOTO[PHOTO.index(b"\xff\xda") : -2] * 40 + PHOTO[-2:], "is a JPEG of 41 passes"),
    "lossless JPEG": (PHOTO.replace(b"\xff\xc0", b"\xff\xc3"), "is a kind of JPEG that isn't read"),
    "many tables": (PHOTO[:2] + TABLE * 1000 + PHOTO[2:], "is a broken image: its tables have"),
    "fill bytes in a scan": (PHOTO[:-2] + b"\xff" * 2000 + PHOTO[-2:], "it has 1024 fill bytes in a row"),
    "a GIF of comments": (b"GIF89a\x09\0\x09\0\0\0\0" + b"\x21\xfe\x01a\0" * 10_001, "more than 10000 blocks"),
    "a GIF of comments in bits": (
        b"GIF89a\x09\0\x09\0\0\0\0" + (b"\x21\xfe" + b"\x01a" * 5000 + b"\0") * 3,
        "more than 10000 blocks",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_picture_or_costs_more_than_it_shows_is_refused(name: str) -> None:
    file, complaint = BROKEN[name]
    with pytest.raises(InvalidRequest) as refused:
        sent(file)
    assert refused.value.message.startswith("image: ")
    assert complaint in refused.value.message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.66])
def test_a_picture_cut_short_is_broken(kind: str, share: float) -> None:
    file = KINDS[kind]
    if "motion" in kind:  # its first frame is all that is looked at
        share /= 3
    with pytest.raises(InvalidRequest, match=r"is a broken image|is not a PNG, JPEG, WebP or GIF"):
        sent(file[: int(len(file) * share)])


def test_size_is_checked_before_anything_is_decoded() -> None:
    with pytest.raises(ImageTooLarge, match="4001 by 4000 pixels; at most 16000000"):
        sent(PNG_START + header(4001, 4000) + PNG_END)
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff\xff\xff" * 2
    with pytest.raises(ImageTooLarge, match="16777216 by 16777216"):
        sent(b"RIFF" + struct.pack("<I", 22) + b"WEBP" + canvas)
    screen = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"\x2c" + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0)
    with pytest.raises(ImageTooLarge, match="60000 by 60000"):
        sent(screen)


def test_all_pictures_of_a_request_are_held_to_the_pixels_of_the_largest(client: FlaskClient) -> None:
    def ask(*files: bytes) -> tuple[int, str]:
        reply = client.post("/generate", json={"prompt": "x", "images": [base64_of(file) for file in files]})
        return reply.status_code, reply.json.get("error", {}).get("message", "")

    half = Image.new("L", (3000, 2667))
    png, photo = encoded(half), encoded(half, "JPEG")
    assert ask(photo, photo, png, photo)[0] == 200
    status, message = ask(png, png)
    assert status == 413
    assert message.startswith("images[1]: this and those before take as long to decode as 16002000 pixels of a PNG")
    # What is not scaled down while it is decoded, and kinds that take longer, count for more.
    for slow, most in (
        (encoded(smooth("RGB", 2200, 2200), "JPEG"), 3),
        (encoded(smooth("RGB", 1500, 1500), "WEBP"), 1),
        (encoded(smooth("RGBA", 2800, 2800)), 1),
    ):
        assert [ask(*[slow] * count)[0] for count in (most, most + 1)] == [200, 413]
    many = encoded(half, "JPEG", progressive=True)
    assert many.count(b"\xff\xda") in range(2, 10)
    assert ask(many, many, photo)[0] == 200
    slow = many[:-2] + many[many.rindex(b"\xff\xda") : -2] * 25 + many[-2:]
    assert ask(slow)[0] == 413


def test_what_takes_too_much_memory_for_its_size_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="4000 by 3900 pixels in a PNG of this kind take 62400000 bytes"):
        sent(PNG_START + header(4000, 3900) + PNG_END)
    assert sent(encoded(Image.new("L", (4000, 3900)))).size == (1120, 1092)
    assert sent(encoded(Image.new("RGB", (4000, 3900)), "JPEG")).size == (1120, 1092)


@pytest.mark.parametrize(
    ("bits", "colours", "transparent", "interlaced", "effort"),
    [
        (8, 0, False, 0, 1.0),
        (8, 2, False, 0, 1.0),
        (8, 3, True, 0, 1.0),  # the palette is blended, not the pixels
        (8, 6, False, 0, 1.7),
        (8, 2, True, 0, 1.7),
        (8, 2, False, 1, 1.5),
        (8, 6, True, 1, 2.2),
        (16, 0, False, 0, 2.0),
        (16, 4, False, 0, 3.7),
        (16, 2, False, 0, 4.0),
        (16, 2, True, 1, 5.2),
        (16, 6, False, 1, 6.2),
    ],
)
def test_a_png_that_takes_longer_than_a_plain_one_counts_for_more(
    bits: int, colours: int, transparent: bool, interlaced: int, effort: float
) -> None:
    file = PNG_START + header(1000, 1000, bits, colours, interlaced) + chunk(b"tRNS", b"\0" * 6) * transparent + PNG_END
    assert read_image_file(file).work(SETTINGS.max_image_edge) == round(effort * 1_000_000)


def test_fill_bytes_before_a_jpegs_markers_are_left_out() -> None:
    filled = PHOTO[:2] + b"\xff" * 100_000 + PHOTO[2:SCAN] + b"\xff" * 100_000 + PHOTO[SCAN:]
    assert read_image_file(filled).data == read_image_file(PHOTO).data
    with pytest.raises(InvalidRequest, match="cut short"):
        sent(PHOTO[:2] + b"\xff" * 1000)


def test_data_urls_are_read_by_their_bytes(client: FlaskClient, stand_in: StandIn) -> None:
    data = png(40, 40)
    mime = "\r\n".join(data[i : i + 76] for i in range(0, len(data), 76))
    for url in (f"data:;base64,{data}", f"data:image/gif;base64,{data}", f"data:image/png;base64,{mime}", mime):
        assert picture_of(for_model("image", url, SETTINGS)).size == (40, 40)
    for url in ("data:image/png,abc", "data:image/png;base64", "data:image/png;base64,ü", "data:image/png;base64,a"):
        with pytest.raises(InvalidRequest, match=r"image: .*base64"):
            for_model("image", url, SETTINGS)
    for url in ("https://example.com/a.png", "file:///etc/passwd"):
        with pytest.raises(InvalidRequest, match="is a URL, which is never fetched"):
            for_model("image", url, SETTINGS)
    assert client.post("/generate", json={"prompt": "x", "images": [f"data:;base64,{data}"]}).status_code == 200


@given(st.data())
def test_a_damaged_picture_is_shown_or_refused(data: st.DataObject) -> None:
    file = bytearray(KINDS[data.draw(st.sampled_from(sorted(KINDS)))])
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert max(sent(bytes(file)).size) <= 1120
    except ServiceError as error:
        assert error.status in (400, 413)


def test_the_file_that_was_sent_is_not_what_the_model_gets() -> None:
    tail = b"a caller's bytes"
    file = base64.b64decode(for_model("image", base64_of(KINDS["PNG"] + tail), SETTINGS))
    assert tail not in file
    assert not Image.open(io.BytesIO(file)).info.get("exif")


def smooth(mode: str, width: int, height: int) -> Image.Image:
    one = Image.radial_gradient("L").resize((width, height))
    return one if mode == "L" else Image.merge(mode, [one] * len(mode))


def paeth(side: int, bits: int, colours: int, transparency: bytes = b"") -> bytes:
    """Return a black square PNG all of whose rows have the filter that takes longest."""
    row = b"\4" + bytes(side * bits // 8 * {2: 3, 6: 4}[colours])
    return (
        PNG_START
        + header(side, side, bits, colours)
        + transparency
        + chunk(b"IDAT", zlib.compress(row * side))
        + PNG_END
    )


HEAVY = {
    "the largest in colour": lambda: encoded(smooth("RGBA", 3600, 2600), compress_level=1),
    "noise": lambda: encoded(Image.effect_noise((2800, 2800), 99), compress_level=1),
    "the largest in grey": lambda: encoded(smooth("L", 4000, 4000), compress_level=1),
    "16 bits": lambda: encoded(Image.new("I;16", (2800, 2800), 30000)),
    "16 bits of three colours, blended, with Paeth's filter": lambda: paeth(1840, 16, 2, chunk(b"tRNS", b"\0" * 6)),
    "16 bits of four colours, with Paeth's filter": lambda: paeth(1670, 16, 6),
    "a transparent palette": lambda: encoded(Image.new("P", (4000, 4000)), transparency=0, bits=1),
    "a line": lambda: encoded(Image.new("P", (65_000, 240))),
    "a photo": lambda: encoded(smooth("RGB", 4600, 3470), "JPEG", quality=95, subsampling=0),
    "a progressive photo": lambda: encoded(smooth("RGB", 4032, 3024), "JPEG", progressive=True),
    "WebP": lambda: encoded(smooth("RGB", 1920, 1200), "WEBP"),
    "lossless WebP": lambda: encoded(smooth("RGB", 1250, 1250), "WEBP", lossless=True, quality=0),
    "transparent WebP": lambda: encoded(smooth("RGBA", 1250, 1250), "WEBP"),
    "GIF": lambda: encoded(smooth("L", 4000, 4000), "GIF"),
    "JPEG with fill bytes": lambda: PHOTO[:2] + b"\xff" * 6_000_000 + PHOTO[2:],
}


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("name", HEAVY)
def test_no_picture_costs_much(name: str) -> None:
    cost = cost_of_picture(HEAVY[name]())
    assert cost.refused == ""
    assert cost.mebibytes < 64
    assert cost.seconds < 2  # 0.3 where nothing else runs


@pytest.mark.usefixtures("programs")
def test_webp_that_takes_far_more_than_its_pixels_is_refused_in_a_process_of_its_own() -> None:
    # 376 MiB in libwebp, of a file of 0.3 MB.
    cost = cost_of_picture(webp_with_many_codes(1024))
    complaint = "image: is a broken image, or takes more memory to decode than there is: send a PNG or a JPEG"
    assert cost.refused == complaint
    assert cost.mebibytes < 16
    assert cost.seconds < 1  # 0.1 where nothing else runs


def test_webp_is_the_same_picture_in_a_process_of_its_own() -> None:
    for mode, options in (("RGB", {"lossless": True}), ("RGBA", {"lossless": True}), ("RGBA", {"quality": 95})):
        file = read_image_file(encoded(smooth(mode, 400, 300), "WEBP", **options))
        assert file.apart
        apart, here = decoded(file, 200), decoded(replace(file, apart=False), 200)
        assert apart.size == (200, 150)
        assert apart.tobytes() == here.tobytes()


@pytest.mark.parametrize("count", [1, 4])
def test_all_pictures_of_a_request_fit_what_a_front_may_send_on(
    client: FlaskClient, stand_in: StandIn, count: int
) -> None:
    noise = Image.frombytes("RGB", (1200, 1000), random.Random(7).randbytes(1200 * 1000 * 3))
    body = {"prompt": "x", "images": [base64_of(encoded(noise, "JPEG", quality=90))] * count}
    assert client.post("/generate", json=body).status_code == 200
    [chat] = stand_in.chats()
    images = chat["messages"][0]["images"]
    assert len(images) == count
    assert sum(map(len, images)) <= ALL_IMAGES * 4 / 3 + 4 * count
    assert min(picture_of(image).width for image in images) >= 280
    for stage in STAGES.values():
        assert len(json.dumps(chat)) + 12 * Settings.max_prompt_chars < stage.payload_mib << 20, stage.name


@pytest.mark.parametrize(("size", "mode"), [((16_000_000, 1), "L"), ((250_000, 64), "P")])
def test_a_picture_with_an_edge_of_more_than_any_model_sees_is_refused(size: tuple[int, int], mode: str) -> None:
    with pytest.raises(ImageTooLarge, match="an edge may have at most 65535"):
        sent(encoded(Image.new(mode, size)))


def test_a_picture_that_is_hardly_more_than_a_line_is_scaled_along_it() -> None:
    assert sent(encoded(Image.new("L", (65_000, 200)))).size == (1120, 32)
    assert sent(encoded(Image.new("L", (1, 60_000)))).size == (32, 1120)
