"""Callers that break off, send nonsense or half of what they announced: one connection each, bounded in time."""

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

from testbed.fetching import message

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PATIENCE = 20.0  # seconds
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
TLS_HELLO = bytes.fromhex("16030100510100004d0303") + bytes(70)
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)


def request(prompt: str, *, stream: bool = True, path: str = "/generate") -> bytes:
    """Return a whole honest request."""
    return message(path, {"prompt": prompt, "stream": stream})


class Misbehaviour:
    """What callers do wrong; each method is one kind. chance: what they draw from; number: makes prompts unique."""

    def __init__(self, host: str, port: int, chance: random.Random, number: int) -> None:
        self._address, self._chance, self._number = (host, port), chance, number

    async def run(self, kind: str) -> None:
        """Misbehave, and leave."""
        act: Callable[[Streams], Awaitable[None]] = getattr(self, kind)
        with suppress(ConnectionError, OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(PATIENCE):
                streams = await asyncio.open_connection(*self._address)
                try:
                    await act(streams)
                finally:
                    streams[1].close()

    @property
    def _whole(self) -> bytes:
        return request(f"Misbehaving {self._number}: [seconds 0.5]", stream=self._chance.random() < 0.5)

    async def _wait(self, most: float = 0.7) -> None:
        await asyncio.sleep(self._chance.uniform(0, most))

    async def leaves_in_head_or_body(self, streams: Streams) -> None:
        """Send a part, wait, leave."""
        streams[1].write(self._whole[: self._chance.randrange(len(self._whole))])
        await self._wait()

    async def leaves_before_the_end(self, streams: Streams) -> None:
        """Send all, leave at any moment."""
        streams[1].write(self._whole)
        await self._wait()

    async def resets(self, streams: Streams) -> None:
        """Send all, then reset the connection."""
        streams[1].write(self._whole)
        await self._wait()
        sock: socket.socket = streams[1].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async def closes_its_sending_half(self, streams: Streams) -> None:
        """Send all, say that nothing more comes, and read on."""
        streams[1].write(self._whole)
        streams[1].write_eof()
        await streams[0].read()

    async def sends_half_a_body(self, streams: Streams) -> None:
        """Announce more than is sent, and wait for what the server does about it."""
        streams[1].write(self._whole[: -self._chance.randrange(1, 20)])
        streams[1].write_eof()
        await streams[0].read()

    async def sends_junk(self, streams: Streams) -> None:
        """Send what isn't HTTP/1.1."""
        junk = self._chance.choice([self._chance.randbytes(self._chance.randrange(1, 4096)), TLS_HELLO, HTTP2])
        streams[1].write(junk)
        await self._wait()
        streams[1].write_eof()
        await streams[0].read()

    async def sends_broken_chunks(self, streams: Streams) -> None:
        """Frame the body wrongly."""
        broken = self._chance.choice([b"zz\r\n{}\r\n", b"5\r\n{}\r\n0\r\n\r\n", b"-1\r\n", b"1000000000\r\nx"])
        streams[1].write(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + broken)
        streams[1].write_eof()
        await streams[0].read()

    async def announces_too_much(self, streams: Streams) -> None:
        """Announce 100 MB, and start to send them."""
        head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
        streams[1].write(head + bytes(100_000))
        await streams[0].read()

    async def uses_its_connection_again(self, streams: Streams) -> None:
        """Ask twice, one after the other, or both at once."""
        asked = request(f"Kept {self._number}: [seconds 0.1]", stream=False)
        if self._chance.random() < 0.5:
            streams[1].write(asked + asked)
        for _ in range(2):
            streams[1].write(asked)
            head = await streams[0].readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await streams[0].readexactly(length)

    async def reads_slowly(self, streams: Streams) -> None:
        """Ask for much, take little of it, leave."""
        streams[1].write(request(f"Slow {self._number}: [seconds 0.1] [pieces 64] [size 65536]"))
        for _ in range(4):
            await streams[0].read(16)
            await self._wait()


KINDS = [name for name in vars(Misbehaviour) if not name.startswith("_") and name != "run"]
