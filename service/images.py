"""Images on their way to the model: decoded here, set upright, scaled to the size that models use, and re-encoded.

So the engine's decoders, written in C, never see a caller's bytes, and a large image costs the engine nothing.
"""

import binascii
import io
from base64 import b64encode
from dataclasses import dataclass

from PIL import Image

from service.decoder import MAX_MEMORY
from service.decoding import decoded
from service.errors import ImageTooLarge, InvalidRequest
from service.image_files import BrokenImage, ImageFile, read_image_file
from service.settings import Settings

# Pixels. Ollama's code for Qwen 2.5 VL panics below 28, and if one edge is more than 200 times the other
# (model/models/qwen25vl/process_image.go).
MIN_EDGE = 32
MAX_EDGE = 65_535  # pixels; the maximum of JPEG and GIF
# Bytes of all re-encoded images of a request: in base64 they fit into Stage.payload_mib together with the texts.
ALL_IMAGES = 1 << 20
SMALL = 1 << 16  # bytes of a file that isn't worth optimising
JPEG_QUALITIES = (92, 80, 60)  # the best that fits is used
URL_MARK = "://"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass
class Work:
    """The work of decoding the images of a request, in pixels (see ImageFile.work)."""

    settings: Settings
    done: int = 0

    def add(self, field: str, file: ImageFile) -> None:
        """Add a file; raises ImageTooLarge if the total is too much."""
        self.done += file.work(self.settings.max_image_edge)
        limit = self.settings.max_image_pixels
        if self.done > limit:
            message = f"{field}: this and those before take as long to decode as {self.done} pixels of a PNG; "
            hint = "scale them down, or send JPEGs that aren't progressive"
            raise ImageTooLarge(f"{message}at most {limit} are allowed", hint=hint)


def for_model(field: str, text: str, settings: Settings, limit: int = ALL_IMAGES, work: Work | None = None) -> str:
    """Return an image, given as base64 or a data URL, as base64 of a PNG or JPEG made from its pixels.

    limit: bytes of the result. work: of the request's images before this one. An address is never fetched.
    Raises InvalidRequest or ImageTooLarge.
    """
    work = work or Work(settings)
    if not text.startswith("data:") and URL_MARK in text[:16]:
        raise InvalidRequest(f"{field}: is a URL, which is never fetched", hint="send the image itself, in base64")
    try:
        file = read_image_file(_bytes_of(field, text))
        _check_size(field, file, settings)
        work.add(field, file)
        return b64encode(_encoded_anew(file, settings, limit)).decode()
    except BrokenImage as broken:
        raise InvalidRequest(f"{field}: {broken}") from None


def _bytes_of(field: str, text: str) -> bytes:
    """Return the bytes of base64 or of a data URL, whose media type is ignored."""
    if not text.isascii():  # takes no copy, unlike the steps below
        raise InvalidRequest(f"{field}: is not base64")
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidRequest(f"{field}: must be base64, as data:image/png;base64,…")
    try:
        return binascii.a2b_base64(text.encode().translate(None, b" \t\r\n"), strict_mode=True)
    except binascii.Error:
        raise InvalidRequest(f"{field}: is not base64") from None


def _check_size(field: str, file: ImageFile, settings: Settings) -> None:
    size = f"{field}: {file.width} by {file.height} pixels"
    if file.width * file.height > settings.max_image_pixels:
        message = f"{size}; at most {settings.max_image_pixels} are allowed"
        raise ImageTooLarge(message, hint="scale it down: models look at about one megapixel")
    if max(file.width, file.height) > MAX_EDGE:
        raise ImageTooLarge(f"{size}; an edge may have at most {MAX_EDGE}", hint="scale it down")
    if file.memory > MAX_MEMORY:
        message = f"{size} in a {file.kind} of this kind take {file.memory} bytes; at most {MAX_MEMORY} are allowed"
        raise ImageTooLarge(message, hint="scale it down, or send a baseline JPEG")


def _encoded_anew(file: ImageFile, settings: Settings, limit: int) -> bytes:
    picture = _upright(file, decoded(file, settings.max_image_edge))
    # A lossless photo takes over a byte a pixel. Encoding it only to find it too large would take 0.1 s of CPU.
    graphic = file.kind != "JPEG" and len(file.data) <= max(file.width * file.height, SMALL)
    return _written(picture, limit, lossless=graphic)


def _upright(file: ImageFile, picture: Image.Image) -> Image.Image:
    if file.orientation in TURNS:
        picture = picture.transpose(TURNS[file.orientation])
    if min(picture.size) >= MIN_EDGE:
        return picture
    framed = Image.new("RGB", (max(picture.width, MIN_EDGE), max(picture.height, MIN_EDGE)), "white")
    framed.paste(picture, ((framed.width - picture.width) // 2, (framed.height - picture.height) // 2))
    return framed


def _written(picture: Image.Image, limit: int, *, lossless: bool) -> bytes:
    if lossless and len(data := _saved(picture, "PNG", compress_level=1)) <= limit:
        return data
    for quality in JPEG_QUALITIES:
        if len(data := _saved(picture, "JPEG", quality=quality, subsampling=0)) <= limit:
            return data
    size = max(MIN_EDGE, picture.width // 2), max(MIN_EDGE, picture.height // 2)
    return data if size == picture.size else _written(picture.resize(size), limit, lossless=False)


def _saved(picture: Image.Image, kind: str, **options: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()
