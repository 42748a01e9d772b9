"""The most expensive requests of at most 8 MiB that we could think of, as bytes on the wire."""

import base64
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from testbed.pictures import encoded, webp_with_many_codes

MOST = 8_388_608  # MAX_BODY_BYTES by default
GENERATE, CHAT, RESPONSES, MESSAGES = "/generate", "/v1/chat/completions", "/v1/responses", "/v1/messages"
PARTS = 256  # of a message, at most


@dataclass(frozen=True)
class Body:
    """A request. images: how many are decoded for it, which takes longer."""

    name: str
    make: Callable[[], bytes]
    images: int = 0


def post(path: str, body: bytes) -> bytes:
    """Return a request with a body of a known length."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def repeated(path: str, begin: str, piece: str, end: str) -> Callable[[], bytes]:
    """Return a request that has `piece` as often as fits, joined by commas."""
    count = (MOST - len(begin) - len(end) + 1) // (len(piece) + 1)
    return lambda: post(path, (begin + ",".join([piece] * count) + end).encode())


def nested(path: str, begin: str, depth: int, end: str) -> Callable[[], bytes]:
    """Return a request with lists in lists."""
    return lambda: post(path, (begin + "[" * depth + "]" * depth + end).encode())


def numbered() -> bytes:
    """Return an object with as many keys as fit, no two the same."""
    return post(GENERATE, ('{"prompt":"x"' + "".join(f',"k{n:06}":0' for n in range(MOST // 13)) + "}").encode())


def chunked() -> bytes:
    """Return a body of chunks of one byte, 8 MiB with their framing."""
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"1\r\nx\r\n" * ((MOST - 5) // 6) + b"0\r\n\r\n"


def headers(count: int, size: int) -> Callable[[], bytes]:
    """Return a request with so many headers of so many bytes."""
    lines = "".join(f"X-{n}: {'x' * size}\r\n" for n in range(count))
    return lambda: f"POST /generate HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: 2\r\n\r\n{{}}".encode()


def with_images(*images: bytes) -> bytes:
    """Return a request with pictures."""
    pictures = [base64.b64encode(each).decode() for each in images]
    return post(GENERATE, json.dumps({"prompt": "What is this? [seconds 0.01]", "images": pictures}).encode())


def png(width: int, height: int, *, noise: bool) -> bytes:
    """Return a PNG of colours at random, which can't be compressed, or of black."""
    line = b"\0" + (random.Random(1).randbytes(3 * width) if noise else bytes(3 * width))  # noqa: S311
    pixels = zlib.compress(line * height, 0 if noise else 9)
    parts = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def photo(kind: str, width: int, height: int, **options: bool) -> bytes:
    """Return a picture without a large even area."""
    small = Image.effect_noise((width // 8, height // 8), 90).convert("RGB")
    return encoded(small.resize((width, height)), kind, **options)


def two_frames() -> bytes:
    """Return a JPEG of two frame headers, the first 26000 x 26000 and the second 10 x 10."""
    frames = (struct.pack(">HHBHHB", 0xFFC0, 11, 8, side, side, 1) + b"\1\x11\0" for side in (26000, 10))
    return b"\xff\xd8" + b"".join(frames) + struct.pack(">HHB", 0xFFDA, 8, 1) + b"\1\0\0\x3f\0\xff\xd9"


def with_schema(schema: object) -> bytes:
    """Return a chat whose answer must fit a schema."""
    form = {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}
    messages = [{"role": "user", "content": "Hi [seconds 0.01]"}]
    return post(CHAT, json.dumps({"messages": messages, "max_tokens": 1, "response_format": form}).encode())


def wide(count: int = 1) -> list[str]:
    """Return texts of 8 MB in all, each with an emoji: as Python's strings they take four bytes a character."""
    return ["😀" + "x" * (MOST // count - 100)] * count


def in_utf8(path: str, **body: object) -> bytes:
    """Return a request about the model that is served."""
    return post(path, json.dumps({"model": "stand-in", **body}, ensure_ascii=False).encode())


def chat(path: str, *contents: object, **body: object) -> bytes:
    """Return a request with messages of the user's."""
    return in_utf8(path, messages=[{"role": "user", "content": content} for content in contents], **body)


def neighbours() -> bytes:
    """Return items that all are one turn of the model's, since it begins with a call."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    return in_utf8(RESPONSES, input=[call, *({"role": "assistant", "content": text} for text in wide(PARTS))])


WIDE = (
    Body("8 MB of text with an emoji", lambda: in_utf8(GENERATE, prompt=wide()[0])),
    Body("such texts in parts", lambda: chat(CHAT, [{"type": "text", "text": text} for text in wide(PARTS)])),
    Body("such texts in items that are one turn", neighbours),
    Body("such texts in messages that are one turn", lambda: chat(MESSAGES, *wide(PARTS), max_tokens=1)),
    Body("such a text as a part's type", lambda: chat(CHAT, [{"type": wide()[0]}])),
    Body("such a text as a field's name", lambda: in_utf8(GENERATE, prompt="x", **{wide()[0]: 1})),
    Body("such a text as the model's name", lambda: in_utf8(GENERATE, **{"prompt": "x", "model": wide()[0]})),
    Body("such a text as an image", lambda: in_utf8(GENERATE, prompt="x", images=[f"data:;base64,{wide()[0]}"])),
)
CHAIN = {f"d{n}": {"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(125)} | {"d125": {}}
FIRST = {"$ref": "#/$defs/d0"}
PATTERNS = {f"p{n}": {"type": "string", "pattern": f"(?=a)\\w{{{n}}}"} for n in range(60)}
BODIES = (
    Body("`images` of numbers: `[1,1,…]`", repeated(GENERATE, '{"prompt":"x","images":[', "1", "]}")),
    Body("524,000 messages without a text", repeated(CHAT, '{"messages":[', '{"role":"tool"}', "]}")),
    Body("280,000 messages with an empty text", repeated(CHAT, '{"messages":[', '{"role":"user","content":""}', "]}")),
    Body("lists in lists, 4 million deep", nested(GENERATE, '{"prompt":', MOST // 2 - 10, "}")),
    Body("650,000 unknown fields", numbered),
    Body("a number of 8 million digits", lambda: post(GENERATE, b'{"prompt":"x","seed":' + b"9" * (MOST - 30) + b"}")),
    Body(
        "a text of 1.4 million escapes", lambda: post(GENERATE, b'{"prompt":"' + b"\\u00e9" * (MOST // 6 - 4) + b'"}')
    ),
    Body(
        "4 MB of empty schemas in `tools`",
        repeated(CHAT, '{"messages":[{"role":"user","content":"x"}],"tools":[', "{}", "]}"),
    ),
    *WIDE,
    Body("8 MB of zeros", lambda: post(GENERATE, bytes(MOST))),
    Body("chunks of one byte", chunked),
    Body("5,000 headers", headers(5000, 100)),
    Body("a header of 8 MiB", headers(1, MOST)),
    Body("a PNG of 6 MB, noise, 1400 x 1400", lambda: with_images(png(1400, 1400, noise=True)), images=1),
    Body("a PNG of 50 kB, black, 4000 x 4000", lambda: with_images(png(4000, 4000, noise=False)), images=1),
    Body("four of those", lambda: with_images(*[png(4000, 4000, noise=False)] * 4), images=4),
    Body("a JPEG of two frame headers", lambda: with_images(two_frames()), images=1),
    Body("four JPEGs of 3000 x 2000", lambda: with_images(*[photo("JPEG", 3000, 2000)] * 4), images=4),
    Body("a progressive JPEG of 3000 x 2000", lambda: with_images(photo("JPEG", 3000, 2000, progressive=True)), True),
    Body("a WebP of 1400 x 1000", lambda: with_images(photo("WEBP", 1400, 1000)), images=1),
    Body("a lossless WebP with codes for each 16 pixels", lambda: with_images(webp_with_many_codes(1024)), images=1),
    Body("a schema of 126 definitions, each naming the next", lambda: with_schema({"$defs": CHAIN, **FIRST})),
    Body("a schema of 60 patterns that no grammar holds", lambda: with_schema({"properties": PATTERNS})),
)
