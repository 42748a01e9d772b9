"""Collects a request's bytes until it is complete: no socket, no clock, no thread.

gunicorn's own parser reads the head once it is complete; then the body is counted, or taken out of its chunks.
"""

import io
import re
from typing import Any

from gunicorn.config import Config
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidHTTPVersion, LimitRequestHeaders, NoMoreData
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from service.errors import BodyTooLarge, InvalidRequest

MAX_HEAD = 32_768  # bytes of request line and headers
MAX_CHUNKS = 16_384  # of one body: half a kilobyte each in the largest body allowed by default
MAX_LINE = 512  # bytes of a chunk's size and extensions, or of one trailer field
MAX_TRAILERS = 16
# A path has one spelling only, so that the proxy and the gateway can't interpret it differently.
SEGMENT = "[A-Za-z0-9_~:@+,=$!*'()&;.-]+"
# OpenAI's and Anthropic's clients escape the slashes in a model's name; nothing else lies below that path.
MODEL = rf"/v1/models/{SEGMENT}(?:%2[Ff]{SEGMENT})+"
CANONICAL = re.compile(rf"(?:{MODEL}|/(?:{SEGMENT}(?:/{SEGMENT})*/?)?)(?:\?[\x21-\x7e]*)?")
DOTS = re.compile(r"(?:/|%2[Ff])\.{1,2}(?:[/?]|%2[Ff]|$)")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e]*)?")  # its size, and extensions, which are ignored


class Whole(io.BytesIO):
    """A complete body. size: its bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)

    def take(self) -> bytes:
        """Return the bytes without a copy, and release them."""
        data = self.getvalue()
        self.close()
        return data


class _Request(Request):
    """gunicorn's Request, without its lookup of the peer in `forwarded_allow_ips`, which is empty."""

    def _peer_is_trusted_proxy(self) -> bool:
        return False


class Incoming:
    """The received part of a connection's next request. max_body: bytes that a body may have."""

    def __init__(self, config: Config, peer: Any, max_body: int) -> None:
        self._config, self._peer, self._max_body = config, peer, max_body
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer already searched for the end of the head
        self._count = 0
        self._head: Any = None  # gunicorn's Request
        self._body: _Length | _Chunks | None = None

    @property
    def size(self) -> int:
        """Return the bytes held."""
        return len(self._buffer) + (len(self._body.data) if self._body else 0)

    @property
    def head(self) -> Any:
        """Return gunicorn's Request once its head is complete and until its body is, else None."""
        return self._head

    def forget(self) -> None:
        """Release the memory; nothing more is read from this connection."""
        self._buffer.clear()
        self._head, self._body = None, None

    def wants_continue(self) -> bool:
        """Say whether the client waits for `100 Continue` before it sends the body; True only once."""
        wanted = self._head is not None and self._head._expected_100_continue
        if self._head is not None:
            self._head._expected_100_continue = False
        return wanted

    def feed(self, data: bytes) -> Any:
        """Take bytes and return gunicorn's Request once it is complete; bytes after it are kept for the next call.

        Its body is a Whole, and its Content-Length is that body's. Raises ParseException or a ServiceError; then
        nothing more can be read from this connection.
        """
        self._buffer += data
        if self._head is None and not self._read_head():
            return None
        if self._body is not None and not self._body.feed(self._buffer):
            return None
        return self._finish()

    def _read_head(self) -> bool:
        if self._searched == 0 and self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]  # RFC 9112, 2.2: an empty line before the request line
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0 and len(self._buffer) <= MAX_HEAD and not self._has_bare_line_feed():
            self._searched = len(self._buffer)
            return False
        head = bytes(self._buffer[: MAX_HEAD if end < 0 else end + 4])
        del self._buffer[: len(head)]
        self._head = request = self._parse(head)
        self._check(request)
        self._body = self._reader(request)
        return True

    def _has_bare_line_feed(self) -> bool:
        """Say whether the buffer can no longer become a valid head."""
        feeds = self._buffer.count(b"\n", self._searched)
        return bool(feeds) and self._buffer.count(b"\n") != self._buffer.count(b"\r\n")

    def _parse(self, head: bytes) -> Any:
        self._count += 1
        try:
            return _Request(self._config, IterUnreader([head]), self._peer, self._count)
        except NoMoreData:
            raise LimitRequestHeaders("max buffer headers") from None

    def _check(self, request: Any) -> None:
        if request.version not in ((1, 0), (1, 1)):
            raise InvalidHTTPVersion(request.version)
        if request.version == (1, 1) and not any(name == "HOST" for name, _value in request.headers):
            raise InvalidRequest("Host: is required")  # RFC 9112, 3.2
        if not CANONICAL.fullmatch(request.uri) or DOTS.search(request.uri):
            raise InvalidRequest("the path must be written plainly: no %, no // and no dot segments")

    def _reader(self, request: Any) -> "_Length | _Chunks | None":
        reader = request.body.reader  # of length 0 if none is given
        if isinstance(reader, ChunkedReader):
            return _Chunks(self._max_body)
        if reader.length > self._max_body:
            raise too_large(self._max_body)
        return _Length(reader.length) if reader.length else None

    def _finish(self) -> Any:
        request, body = self._head, self._body.data if self._body else b""
        request.body = Whole(bytes(body))
        framing = ("TRANSFER-ENCODING", "CONTENT-LENGTH", "TRAILER")
        request.headers = [field for field in request.headers if field[0] not in framing]
        request.headers.append(("CONTENT-LENGTH", str(len(body))))
        self._head, self._body, self._searched = None, None, 0
        return request


def too_large(limit: int) -> BodyTooLarge:
    """Return the error for a body of more than `limit` bytes."""
    return BodyTooLarge(f"body: is too large; at most {limit} bytes are allowed")


class _Length:
    """A body of a known number of bytes."""

    def __init__(self, length: int) -> None:
        self.data, self._left = bytearray(), length

    def feed(self, buffer: bytearray) -> bool:
        """Move the bytes of the body out of `buffer`, and say whether it is complete."""
        taken = buffer[: self._left]
        del buffer[: len(taken)]
        self.data += taken
        self._left -= len(taken)
        return not self._left


class _Chunks:
    """A body in chunks (RFC 9112, 7.1). Trailer fields are ignored."""

    def __init__(self, limit: int) -> None:
        self.data, self._limit = bytearray(), limit
        self._left: int | None = None  # of the current chunk, including its line break; None: its size comes next
        self._count, self._trailers = 0, -1  # -1: not there yet

    def feed(self, buffer: bytearray) -> bool:
        """Move the bytes of the body out of `buffer`, and say whether it is complete."""
        at = 0
        try:
            while True:
                if self._left is not None:
                    at = self._read_data(buffer, at)
                    if self._left is not None:
                        return False
                end = buffer.find(b"\r\n", at, at + MAX_LINE)
                if end < 0:
                    if len(buffer) - at > MAX_LINE:
                        raise InvalidRequest("body: its chunks are broken: a line is too long")
                    return False
                line, at = bytes(buffer[at:end]), end + 2
                if self._read_line(line):
                    return True
        finally:
            del buffer[:at]

    def _read_data(self, buffer: bytearray, at: int) -> int:
        assert self._left is not None  # noqa: S101
        taken = min(self._left, len(buffer) - at)
        data = buffer[at : at + taken]
        # The last two bytes are the line break.
        kept = max(0, min(taken, self._left - 2))
        if data[kept:] != b"\r\n"[2 - min(2, self._left) :][: taken - kept]:
            raise InvalidRequest("body: its chunks are broken: one is longer than it says")
        self.data += data[:kept]
        self._left = self._left - taken or None
        return at + taken

    def _read_line(self, line: bytes) -> bool:
        if self._trailers >= 0:
            self._trailers += 1
            if self._trailers > MAX_TRAILERS:
                raise InvalidRequest(f"body: at most {MAX_TRAILERS} trailer fields are allowed")
            return not line
        chunk = CHUNK.fullmatch(line)
        if chunk is None:
            raise InvalidRequest("body: its chunks are broken: one doesn't begin with its size")
        length = int(chunk[1], 16)
        self._count += 1
        if len(self.data) + length > self._limit:
            raise too_large(self._limit)
        if self._count > MAX_CHUNKS:
            raise InvalidRequest(f"body: comes in more than {MAX_CHUNKS} chunks", hint="send larger ones")
        if length:
            self._left = length + 2
        else:
            self._trailers = 0
        return False
