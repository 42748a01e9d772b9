"""Hosts and origins in HTTP headers, normalised so that they can be compared."""

import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import TypeVar

ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{0,5}))?")
DEFAULT_PORTS = {"http": "80", "https": "443"}
LONGEST = 255  # characters of a name
T = TypeVar("T")


def remembered(function: Callable[[str], T]) -> Callable[[str], T]:
    """Cache `function` for short arguments: nearly all requests name the same few hosts and origins."""
    cached = lru_cache(256)(function)
    return lambda text: cached(text) if len(text) <= LONGEST else function(text)


@remembered
def origin(text: str) -> str:
    """Return `scheme://host[:port]` in lower case and without a default port; "" if it isn't one, such as `null`."""
    match = ORIGIN.fullmatch(text.strip().lower())
    if match is None:
        return ""
    scheme, host, port = match["scheme"], match["host"], match["port"]
    return f"{scheme}://{host}" + (f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else "")


@remembered
def host_name(text: str) -> str:
    """Return the name or address in a Host header, without port and brackets; "" if there is none."""
    match = ORIGIN.fullmatch(f"http://{text.strip().lower()}")
    return match["host"].strip("[]").rstrip(".") if match else ""


@remembered
def is_loopback(name: str) -> bool:
    """Say whether a name or address always means this machine, whatever a name server answers."""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def with_port(host: str, port: int | None) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listed(text: str) -> list[str]:
    """Return the items of a comma-separated list."""
    return [item.strip() for item in text.split(",") if item.strip()]
