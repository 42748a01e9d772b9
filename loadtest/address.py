"""The address of a target, as people and their clients write it."""

import argparse
import os
import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

EXAMPLE = "http://localhost:5000"


@dataclass(frozen=True)
class Address:
    """Where a target answers: `url` without a slash at its end, and the credentials that were written into it."""

    url: str
    credentials: str = field(default="", repr=False)  # USER:PASSWORD, percent-encoded as in a URL

    @property
    def with_credentials(self) -> str:
        """Return the URL as it was given, which must not be printed."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{self.credentials}@{rest}" if self.credentials else self.url

    def headers(self) -> dict[str, str]:
        """Return what a request needs to be let in: the credentials, or the key in API_KEY."""
        if self.credentials:
            user, _, password = self.credentials.partition(":")
            both = f"{unquote(user)}:{unquote(password)}".encode()
            return {"Authorization": f"Basic {b64encode(both).decode()}"}
        key = os.environ.get("API_KEY")
        return {"Authorization": f"Bearer {key}"} if key else {}


def read_address(text: str) -> Address:
    """Read an address; a path that ends in /v1, as OpenAI's clients need it, and what follows that are left out."""
    try:
        parts = urlsplit(text)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, brackets that don't close
        right = False
    if not right or parts.query or parts.fragment:
        shown = text.rpartition("@")[2]  # whatever stands before it may be a password
        raise argparse.ArgumentTypeError(f"{shown!r} is not an address such as {EXAMPLE}")
    credentials, _, host = parts.netloc.rpartition("@")
    path = re.sub(r"/v1(/.*)?$", "", parts.path).rstrip("/")
    return Address(f"{parts.scheme}://{host}{path}", credentials)
