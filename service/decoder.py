"""Decodes an image file with Pillow; also a program, which starts fast because it imports nothing else."""

import io
import resource
import sys
from pathlib import Path

from PIL import Image

# Bytes that one decoded image may take, as one of 9 megapixels does. One is decoded at a time: see lane.py.
MAX_MEMORY = 36 << 20
SPARE_MEMORY = 16 << 20  # in addition, in a process of its own: for the file and the decoder's tables
MAX_SECONDS = 2  # of CPU, in a process of its own; the largest legitimate image takes a third of one
STRIP = 1 << 18  # pixels that are scaled at a time, so that a large image isn't copied whole
Image.MAX_IMAGE_PIXELS = None  # service/images.py checks the size before Pillow sees the file


def decode(kind: str, size: tuple[int, int], data: bytes, edge: int) -> Image.Image:
    """Decode a file to RGB on white, its longer edge at most `edge`; raises whatever Pillow raises."""
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        if image.size != size:
            raise ValueError("it has two sizes")
        scale = min(1.0, edge / max(image.size))
        width, height = (max(1, round(side * scale)) for side in image.size)
        image.draft("RGB", (width, height))
        image.load()
        if image.mode == "P" and image.has_transparency_data:
            _whiten(image)
        factor = max(1, image.width // width), max(1, image.height // height)
        small = Image.new("RGB", (-(-image.width // factor[0]), -(-image.height // factor[1])))
        rows = max(1, STRIP // (image.width * factor[1])) * factor[1]
        for top in range(0, image.height, rows):
            box = (0, top, image.width, min(image.height, top + rows))
            small.paste(_on_white(image.crop(box)).reduce(factor), (0, top // factor[1]))
    return small.resize((width, height), Image.Resampling.LANCZOS) if small.size != (width, height) else small


def _whiten(image: Image.Image) -> None:
    """Blend a palette with white: at most 256 colours instead of all pixels."""
    image.apply_transparency()
    colours = bytes(image.getpalette("RGBA") or ())
    palette = Image.frombytes("RGBA", (len(colours) // 4, 1), colours)
    image.putpalette(_on_white(palette).tobytes(), "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Return RGB, blended with white where the image is transparent."""
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips at 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    white = Image.new("RGBA", clear.size, "white")
    return Image.alpha_composite(white, clear).convert("RGB")


def main(kind: str, width: str, height: str, edge: str) -> None:
    """Decode the file on stdin to a PPM on stdout, within limits on memory and CPU time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MAX_MEMORY + SPARE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    picture = decode(kind, (int(width), int(height)), sys.stdin.buffer.read(), int(edge))
    picture.save(sys.stdout.buffer, "PPM")


if __name__ == "__main__":
    main(*sys.argv[1:])
