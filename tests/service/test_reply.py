"""Chunks as the engine sends them, and as it shouldn't."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from service import reply
from service.engine_errors import EngineDied
from service.ollama import Ollama
from service.settings import Settings

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b'{"message": {"content": "a"}, "done": false}\n'
SIZES = [sign % len(PIECE) for sign in (b"+%x", b"0x%x", b"0_%x", b" %x", b"000000000%x")]
LAST = b'{"message": {"content": ""}, "done": true}\n'


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


@contextmanager
def engine(*answers: bytes) -> Iterator[Ollama]:
    """Serve these answers one after the other on one connection, then close it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                for answer in answers:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        ollama = Ollama(Settings(ollama_host=f"http://127.0.0.1:{server.getsockname()[1]}"))
        yield ollama
        ollama.pool.forget()
        thread.join()


def ask(ollama: Ollama) -> list[bool]:
    with closing(ollama.request("/api/chat", b"{}", timeout=10)) as reply:
        return [message["done"] for message in reply.lines()]


def test_pieces_may_come_in_any_chunks_and_the_connection_is_used_again() -> None:
    both = PIECE + LAST
    whole = HEAD + chunk(both[:7], b"; extension=1") + chunk(both[7:]) + b"0\r\nTrailer: x\r\n\r\n"
    with engine(whole, HEAD + chunk(both) + b"0\r\n\r\n") as ollama:
        assert ask(ollama) == [False, True]
        assert ask(ollama) == [False, True]


@pytest.mark.parametrize(
    "broken",
    [
        *(b"", b"zz\r\n", b"-5\r\n", b"\r\n", b"5\r\nab", chunk(PIECE)[:-2] + b"xx", chunk(PIECE)),
        *(size + b"\r\n" + PIECE + b"\r\n" + chunk(LAST) + b"0\r\n\r\n" for size in SIZES),
    ],
    ids=["nothing", "no size", "negative", "empty line", "short", "too long", "no end", *map(repr, SIZES)],
)
def test_broken_chunks_are_an_engine_that_broke_off(broken: bytes) -> None:
    with engine(HEAD + broken) as ollama, pytest.raises(EngineDied):
        ask(ollama)


@pytest.mark.parametrize("chunks", [chunk(b"x" * 200), chunk(b"x" * 60) * 2], ids=["chunk", "line"])
def test_chunks_and_lines_without_end_are_an_engine_that_broke_off(
    chunks: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply, "MAX_LINE", 100)
    whole = HEAD + chunk(PIECE) + chunks + b"0\r\n\r\n"
    with engine(whole) as ollama, closing(ollama.request("/api/chat", b"{}", timeout=10)) as answer:
        pieces = answer.lines()
        assert next(pieces)["done"] is False
        with pytest.raises(EngineDied, match="broke off"):
            next(pieces)
