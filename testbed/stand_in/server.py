"""An HTTP server on asyncio alone: the stand-in also runs in images that have none of the tests' packages."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

HEAD_LIMIT = 1 << 20  # bytes


class Exchange:
    """A request with its JSON body, and the answer to it."""

    def __init__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.decode("latin-1").splitlines()
        self.method, self.path, _ = first.split(" ")
        fields = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        self.body: Any = None
        self.begun = False  # a streamed answer, whose head is sent
        self._writer = writer

    @property
    def peer(self) -> int:
        """Return the client's port."""
        return int(self._writer.get_extra_info("peername")[1])

    async def reply(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer: text as it is, anything else as JSON."""
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        kind = "text/plain" if isinstance(content, str) else "application/json"
        fields = {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
        await self.write(_head(status, fields) + body)

    async def begin(self) -> None:
        """Send the head of a streamed answer."""
        self.begun = True
        await self.write(_head(200, {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}))

    async def line(self, message: Any) -> None:
        """Send a message as a line of a streamed answer."""
        if not self.begun:
            await self.begin()
        line = json.dumps(message).encode() + b"\n"
        await self.write(b"%x\r\n%b\r\n" % (len(line), line))

    async def end(self) -> None:
        """End a streamed answer."""
        if not self.begun:
            await self.begin()
        await self.write(b"0\r\n\r\n")

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


class Server:
    """Has each request answered by `answer`, which is cancelled when the client leaves, as Ollama's work is."""

    def __init__(self, answer: Callable[[Exchange], Awaitable[None]]) -> None:
        self._answer = answer
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._opening = 0  # connections that _serve() hasn't begun with

    async def listen(self, host: str, port: int) -> int:
        """Accept connections, and return the port: port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._protocol, host, port, backlog=1024)
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Accept no more connections, and cut those that there are."""
        for sock in self._listener.sockets:  # close() alone leaks a connection that has just been accepted
            asyncio.get_running_loop().remove_reader(sock.fileno())
        await asyncio.sleep(0)  # until such a connection has its protocol
        while self._opening:
            await asyncio.sleep(0)
        self._listener.close()
        connections = dict(self._connections)
        for task, writer in connections.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        self._opening += 1
        reader = _Reader(limit=HEAD_LIMIT)
        return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._serve(reader, writer))

    async def _serve(self, reader: "_Reader", writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, one after the other, until the client leaves."""
        task = asyncio.current_task()
        assert task
        self._connections[task] = writer
        self._opening -= 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    exchange = await _read(reader, writer)
                    with reader.cancelling(task):
                        await self._answer(exchange)
        finally:
            del self._connections[task]
            writer.close()


class _Reader(asyncio.StreamReader):
    """A connection's incoming side, which notices that the client has left without reading further."""

    _answering: asyncio.Task[Any] | None = None

    @contextlib.contextmanager
    def cancelling(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """Cancel the task if the client leaves in this block. Raises ConnectionResetError where it has left before."""
        if self.at_eof():
            raise ConnectionResetError
        self._answering = task
        try:
            yield
        finally:
            self._answering = None

    def feed_eof(self) -> None:
        super().feed_eof()
        self._leave()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._leave()

    def _leave(self) -> None:
        if self._answering:
            self._answering.cancel()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    """Return the next request. Raises IncompleteReadError at the end of the connection."""
    exchange = Exchange(await reader.readuntil(b"\r\n\r\n"), writer)
    body = await reader.readexactly(int(exchange.headers.get("content-length", 0)))
    exchange.body = json.loads(body) if body else None
    return exchange


def _head(status: int, fields: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} -\r\n{lines}\r\n".encode()
