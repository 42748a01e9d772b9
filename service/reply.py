"""Reading an answer of the engine, until its end, the client's disconnect or the deadline."""

import json
import re
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any

from service.engine_errors import EngineDied, answered_error, error_in_stream, upstream_error
from service.pool import Pool, WatchedSocket
from service.request_log import RELEASE_HEADER

MAX_CHUNK_LINE = 1024  # bytes
MAX_TRAILERS = 64  # lines
MAX_LINE = 16 << 20  # bytes of a piece of an answer, and of a chunk: far more than an engine sends
SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


def check_piece(piece: Any) -> None:
    """Check that a line of a stream is a piece of an answer; raises TypeError or LookupError."""
    message = piece["message"] if {"message", "done"} <= set(piece) else None
    if not isinstance(message, dict) or not isinstance(message.setdefault("content", ""), str):
        raise TypeError("not a piece of an answer")
    if not isinstance(message.get("thinking", ""), str):
        raise TypeError("not a thought")
    for call in message.get("tool_calls") or ():
        if not isinstance(call["function"]["name"], str) or not isinstance(call["function"]["arguments"], dict):
            raise TypeError("not a call of a tool")


class Reply:
    """An answer of Ollama's that is being read; close() cancels Ollama's work."""

    def __init__(self, sock: WatchedSocket, pool: Pool) -> None:
        self._sock, self._pool, self._response = sock, pool, HTTPResponse(sock)
        self.answered = self._whole = False  # whether its head has been read; and its last byte

    def header(self, name: str) -> str:
        """Return a header of the answer, nothing if it isn't there."""
        return str(self._response.headers.get(name, ""))

    def begin(self, request: bytes) -> None:
        """Send the request and read the answer's head; raises a ServiceError unless it is a 200."""
        try:
            self._sock.sendall(request)
            self._response.begin()
            self.answered = True
            if self._response.status != 200:
                retry_after = self._response.headers.get("Retry-After")
                error = answered_error(self._response.status, self._response.read(), retry_after)
                error.release = self.header(RELEASE_HEADER)
                raise error
        except (HTTPException, OSError) as error:
            raise self._upstream_error(error) from error

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects of a streamed answer as they come.

        Raises EngineDied if Ollama ends it early, an error that it reports, and what reading a WatchedSocket raises.
        """
        rest, body = b"", self._body()
        try:
            for data in body:
                self._pool.heard = time.monotonic()
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > MAX_LINE:
                    raise ValueError("a line without end")
                for line in lines:
                    message = json.loads(line.decode())
                    if "error" in message:
                        raise error_in_stream(message)
                    check_piece(message)
                    if message.get("done"):
                        for _ in body:  # read to the end, so that the connection can be reused
                            pass
                    yield message
        except (HTTPException, OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            raise self._upstream_error(error) from error

    def _body(self) -> Iterator[bytes]:
        """Yield the body as it comes. http.client would take 10 µs for each chunk, which is one token."""
        response = self._response
        if not response.chunked:
            while data := response.read1():
                yield data
            return
        while size := self._chunk_size():
            data = response.fp.read(size + 2)
            if len(data) != size + 2 or not data.endswith(b"\r\n"):
                raise IncompleteRead(data)
            yield data[:-2]
        for _ in range(MAX_TRAILERS):
            if not response.fp.readline(MAX_CHUNK_LINE).rstrip(b"\r\n"):
                self._whole = True
                return
        raise ValueError("trailer fields without end")

    def _chunk_size(self) -> int:
        line = self._response.fp.readline(MAX_CHUNK_LINE)
        found = SIZE.fullmatch(line)
        size = int(found[1], 16) if found else MAX_LINE + 1
        if size > MAX_LINE:
            raise IncompleteRead(line)
        return size

    def json(self) -> dict[str, Any]:
        """Return an answer that is one JSON object; raises as lines() does."""
        try:
            return dict(json.loads(self._response.read()))
        except (HTTPException, OSError, ValueError, TypeError, RecursionError) as error:
            raise self._upstream_error(error) from error

    def _upstream_error(self, error: Exception) -> EngineDied:
        return upstream_error(error, cut=self._sock.is_cut)

    def close(self) -> None:
        """Close the connection, so that Ollama stops generating; keep it if the answer was read to its end."""
        reusable = (self._whole or self._response.isclosed()) and not self._response.will_close
        self._response.close()
        self._pool.give_back(self._sock, reusable=reusable)
