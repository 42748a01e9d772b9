"""Whether a port can be listened on, asked before the slow work."""

import errno
import socket

from launcher.console import Problem
from service.addresses import with_port


def need_port(host: str, port: int, variable: str) -> None:
    """Raise Problem, naming the variable to change, unless `host`:`port` can be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
            sock.bind(address)
    except socket.gaierror as error:
        raise Problem(f"{host} is no address ({error.strerror}): change {variable}") from error
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"port {port} is in use",
            errno.EACCES: f"port {port} is for root only",
            errno.EADDRNOTAVAIL: f"{host} is no address of this machine",
        }
        reason = reasons.get(error.errno or 0, f"{with_port(host, port)} can't be listened on ({error.strerror})")
        raise Problem(f"{reason}: change {variable}") from error
