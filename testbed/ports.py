"""Ports for servers that are started side by side, also by several processes at once."""

import atexit
import socket
from collections import deque

RESERVED = 64  # ports that are kept from others: far more than a test starts servers

_reserved: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a port that nothing listens on at the moment."""
    [port] = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return as many ports for servers that nobody else gets: nothing listens on them, and for a while nothing can.

    Each stays bound by a socket that doesn't listen. Next to that one only those may bind that set SO_REUSEADDR, as
    servers do; the kernel gives it neither to a client nor to another call of this, in this process or the next one.
    """
    socks = [_reserve() for _ in range(count)]
    while len(_reserved) > RESERVED:
        _reserved.popleft().close()
    return [int(sock.getsockname()[1]) for sock in socks]


def _reserve() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only now: or the kernel would give us a reserved one
    _reserved.append(sock)
    return sock


@atexit.register
def _release() -> None:
    for sock in _reserved:
        sock.close()
