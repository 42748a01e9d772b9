"""Image files as sent: their kind, size and orientation, and the parts that a decoder needs.

A decoder gets a file only without its metadata, and only once its structure is known to be bounded: each comment and
profile costs the decoder time and memory, a file with two sizes may pass a check that reads only one of them, and a
JPEG may ask for thousands of passes.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.image_orientation import orientation_of

MAX_PARTS = 10_000  # chunks or blocks of a file; libpng's are 8 KiB, so a PNG of 8 MiB has 1,024
MAX_SCANS = 32  # of a progressive JPEG; encoders make about ten
PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
PNG_PIXEL = {0: 1, 2: 4, 3: 1, 4: 4, 6: 4}  # bytes of a decoded pixel by colour type
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
PNG_PALETTE, PNG_ALPHA = 3, (4, 6)
# What adds to the effort of 1 for a plain PNG: pixels that are blended with white, the seven passes of an interlaced
# file, and the second byte of each channel, because filters work by the byte.
BLENDING, INTERLACE, SECOND_BYTE = 0.7, 0.5, 1.0
JPEG_KEPT = {0xC4, 0xDB, 0xDD, 0xEE}  # tables, and Adobe's marker for the colour space
NO_FILL = re.compile(rb"[^\xff]")  # any number of bytes 0xFF may stand before a marker
# Bytes: far more than in any real JPEG. Pillow reads tables in Python, each of 65 bytes in 7 µs. In a scan, it looks at
# the fill bytes that it has seen so far again for each block of the file that it reads.
MAX_TABLES, MAX_FILL = 1 << 16, 1 << 10
JPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # the kinds in use: baseline, extended, progressive
WEBP_PIXEL, WEBP_LOSSLESS_PIXEL = 16, 24  # bytes: libwebp's two canvases, Pillow's copy, and the image
WEBP_EFFORT = 5.5
# Pixels of lossless WebP data, transparency included. Each block of 4 by 4 may have its own prefix codes, whose tables
# take 6 kB in libwebp: 24 MiB here.
WEBP_LOSSLESS = 65_536


class BrokenImage(ValueError):
    """The bytes are not an image that can be read; the message says why."""


@dataclass(frozen=True)
class ImageFile:
    """A file without its metadata.

    memory: bytes that decoding it takes, if that isn't the size of the result. passes: over a JPEG's coefficients.
    effort: of decoding a pixel, relative to a plain PNG: opaque, with 8 bits a channel, not interlaced. apart: only the
    decoder can tell how much memory the file takes, which may be far more, so it is decoded in a separate process.
    """

    kind: str
    width: int
    height: int
    memory: int
    data: bytes
    orientation: int = 1
    passes: int = 1
    effort: float = 1.0
    apart: bool = False

    def work(self, edge: int) -> int:
        """Return roughly how long it takes to decode the file to an image with a longer edge of `edge`.

        The unit is a pixel of a plain PNG: 19 ns of CPU on the machine where this was measured. A JPEG of at least
        twice that size is scaled down while it is decoded, except for reading its bytes; several passes cost more.
        """
        pixels = self.width * self.height
        if self.kind != "JPEG":
            return round(self.effort * pixels)
        effort = 0.2 if max(self.width, self.height) >= 2 * edge else 1.0
        effort += 0.08 * self.passes if self.passes > 1 else 0
        return round(effort * pixels) + len(self.data)


def read_image_file(data: bytes) -> ImageFile:
    """Return what a PNG, JPEG, WebP or GIF holds, without decoding it; raises BrokenImage."""
    reader = next((reader for start, reader in READERS.items() if data.startswith(start)), None)
    if reader is None:
        raise BrokenImage("is not a PNG, JPEG, WebP or GIF image")
    try:
        file = reader(data)
    except (struct.error, IndexError):
        raise BrokenImage("is a broken image: its file is cut short") from None
    if file.width < 1 or file.height < 1:
        raise BrokenImage("is a broken image: it has no pixels")
    return file


def _counted(what: str) -> Iterator[int]:
    yield from range(MAX_PARTS)
    raise BrokenImage(f"is a broken image: it has more than {MAX_PARTS} {what}")


def _png(data: bytes) -> ImageFile:
    """Keep the chunks that define the pixels."""
    at, kept, exif, head, transparent = 8, [data[:8]], b"", (0,) * 7, False
    for number in _counted("chunks"):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise BrokenImage("is a broken image: its file is cut short")
        if (kind == b"IHDR") != (number == 0):
            raise BrokenImage("is a broken image: it has no header, or two")
        if number == 0:
            head = struct.unpack_from(">IIBBBBB", data, at + 8)
        if kind in PNG_KEPT:
            kept.append(data[at:end])
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        transparent = transparent or kind == b"tRNS"
        at = end
        if kind == b"IEND":
            break
    width, height, bits, colours, _, _, interlaced = head
    effort = _png_effort(bits, colours, transparent=transparent, interlaced=interlaced > 0)
    memory = width * height * (2 if (bits, colours) == (16, 0) else PNG_PIXEL.get(colours, 4))
    return ImageFile("PNG", width, height, memory, b"".join(kept), orientation_of(exif), effort=effort)


def _png_effort(bits: int, colours: int, *, transparent: bool, interlaced: bool) -> float:
    """Return ImageFile.effort. transparent: it has a tRNS chunk. A palette is blended instead of the pixels."""
    blended = colours in PNG_ALPHA or (transparent and colours != PNG_PALETTE)
    deep = PNG_CHANNELS.get(colours, 4) if bits > 8 else 0
    return 1 + BLENDING * blended + INTERLACE * interlaced + SECOND_BYTE * deep


def _jpeg(data: bytes) -> ImageFile:
    """Keep the tables, the one frame header and the scans."""
    at, kept, exif, frame, tables = 2, [data[:2]], b"", b"", 0
    for _ in _counted("segments"):
        at = _before_marker(data, at)
        marker, length = struct.unpack_from(">xBH", data, at)
        end = at + 2 + length
        if data[at] != 0xFF or end > len(data) or length < 2:
            raise BrokenImage("is a broken image: its file is cut short")
        if marker == 0xDA:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame:
                raise BrokenImage("is a broken image: it has two frame headers")
            if marker not in JPEG_FRAMES:
                raise BrokenImage("is a kind of JPEG that isn't read; baseline and progressive are")
            frame = data[at:end]
            kept.append(frame)
        elif marker in JPEG_KEPT:
            tables += length
            kept.append(data[at:end])
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", at + 4):
            exif = exif or data[at + 10 : end]
        at = end
    if not frame:
        raise BrokenImage("is a broken image: it has no frame header")
    if tables > MAX_TABLES:
        raise BrokenImage(f"is a broken image: its tables have {tables} bytes; at most {MAX_TABLES} are read")
    last = data.find(b"\xff\xd9", at)
    return _jpeg_file(frame, data[at : last + 2 if last > 0 else None], kept, orientation_of(exif))


def _before_marker(data: bytes, at: int) -> int:
    """Return where the last of the fill bytes from `at` on stands; there may be millions, so no loop in Python."""
    found = NO_FILL.search(data, at + 1)
    return found.start() - 1 if found else len(data)


def _jpeg_file(frame: bytes, scans: bytes, kept: list[bytes], orientation: int) -> ImageFile:
    if (count := scans.count(b"\xff\xda")) > MAX_SCANS:
        raise BrokenImage(f"is a JPEG of {count} passes; at most {MAX_SCANS} are read")
    if b"\xff" * MAX_FILL in scans:
        raise BrokenImage(f"is a broken image: it has {MAX_FILL} fill bytes in a row")
    height, width, parts = struct.unpack_from(">HHB", frame, 5)
    factors = [frame[11 + 3 * part] for part in range(parts)]
    sampled = [(factor >> 4) * (factor & 15) for factor in factors]
    memory, passes = 0, 1
    if frame[1] == 0xC2 or scans[4] < parts:  # several passes: the decoder keeps all coefficients, two bytes each
        memory, passes = 2 * width * height * sum(sampled) // max(1, *sampled), max(2, count)
    return ImageFile("JPEG", width, height, memory, b"".join([*kept, scans]), orientation, passes)


def _gif(data: bytes) -> ImageFile:
    """Keep the first frame; the decoder never reads what follows."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    head, control, blocks = data[:at], b"", _counted("blocks")
    for _ in blocks:
        if data[at] == 0x2C:
            left, top, wide, high = struct.unpack_from("<HHHH", data, at + 1)
            size = max(width, left + wide), max(height, top + high)
            return ImageFile("GIF", *size, size[0] * size[1], b"".join([b"GIF89a", head[6:], control, data[at:]]))
        if data[at] != 0x21:
            raise BrokenImage("is a broken image: it has no frame")
        begin, label = at, data[at + 1]
        at += 2
        for _ in blocks:  # counted together, as each may have only one byte
            length = data[at]
            at += 1 + length
            if not length:
                break
        if label == 0xF9:
            control = data[begin:at]
    raise AssertionError("unreachable")


def _webp(data: bytes) -> ImageFile:
    """Keep the canvas and the first frame."""
    at, kept, exif, pictured, canvas, lossless = 12, list[bytes](), b"", False, (0, 0), False
    if data[8:12] != b"WEBP":
        raise BrokenImage("is not a PNG, JPEG, WebP or GIF image")
    end = min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    for _ in _counted("chunks"):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        chunk = data[at : at + 8 + length + length % 2]
        at += len(chunk)
        if kind == b"VP8X":
            canvas = _uint24(chunk, 12) + 1, _uint24(chunk, 15) + 1
            kept.append(chunk[:8] + bytes([chunk[8] & 0x12]) + chunk[9:])  # flags: alpha, animation
        elif kind == b"EXIF":
            exif = chunk[8:]
        elif kind in (b"ANIM", b"ALPH") and not pictured:
            lossless = lossless or kind == b"ALPH"
            kept.append(chunk)
        elif kind in (b"ANMF", b"VP8 ", b"VP8L") and not pictured:
            pictured, lossless = True, lossless or kind != b"VP8 "
            canvas = canvas if any(canvas) else _webp_size(kind, chunk)
            kept.append(chunk)
    body = b"WEBP" + b"".join(kept)
    file = b"RIFF" + struct.pack("<I", len(body)) + body
    pixels = canvas[0] * canvas[1]
    apart = lossless and pixels > WEBP_LOSSLESS
    memory = pixels * (WEBP_LOSSLESS_PIXEL if apart else WEBP_PIXEL)
    return ImageFile("WEBP", *canvas, memory, file, orientation_of(exif), effort=WEBP_EFFORT, apart=apart)


def _webp_size(kind: bytes, chunk: bytes) -> tuple[int, int]:
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", chunk, 9)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", chunk, 14)
    return width & 0x3FFF, height & 0x3FFF


def _uint24(data: bytes, at: int) -> int:
    low, high = struct.unpack_from("<HB", data, at)
    return int(low | high << 16)


READERS: dict[bytes, Callable[[bytes], ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"GIF87a": _gif,
    b"GIF89a": _gif,
    b"RIFF": _webp,
}
