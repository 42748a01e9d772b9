"""API keys: a file of hashes that is read again when it changes, and a quota for each key.

`python -m service.keys NAME` makes a key, prints it once, and the lines for the file.
"""

import hashlib
import hmac
import logging
import re
import secrets
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from service.errors import QuotaExceeded, Unauthorized
from service.settings import SettingError

log = logging.getLogger("sluice")

LOOK_AGAIN = 1.0  # seconds between two looks at the file's time stamp
FIELDS = {"sha256", "requests_per_minute", "concurrent"}


def digest(token: str) -> str:
    """Return the SHA-256 of a key in hex. Keys have 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


class Key:
    """One client's key and what it has used of its quota. 0 means no limit."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name, self.sha256, self.requests_per_minute, self.concurrent = name, "", 0, 0
        self._clock, self._lock = clock, threading.Lock()
        self._used, self._at, self._running = 0.0, clock(), 0

    def acquire(self, service_time: float) -> Callable[[], None]:
        """Count a request against the quota and return what gives its concurrent place back.

        service_time: seconds a request takes at present, for Retry-After. Raises QuotaExceeded.
        """
        with self._lock:
            if self.concurrent and self._running >= self.concurrent:
                raise QuotaExceeded(f"this key may run {self.concurrent} requests at once", retry_after=service_time)
            if self.requests_per_minute:
                self._take_from_bucket()
            self._running += 1
        return self._release

    def _take_from_bucket(self) -> None:
        rate, now = self.requests_per_minute / 60, self._clock()
        used = max(0.0, self._used - (now - self._at) * rate)
        if used + 1 > self.requests_per_minute:
            message = f"this key may send {self.requests_per_minute} requests a minute"
            raise QuotaExceeded(message, retry_after=(used + 1 - self.requests_per_minute) / rate)
        self._used, self._at = used + 1, now

    def _release(self) -> None:
        with self._lock:
            self._running -= 1


class Keys:
    """The keys in a TOML file: a table a client with `sha256`, `requests_per_minute` and `concurrent`.

    Raises SettingError when the first reading fails; later a broken file is logged and the known keys stay.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._keys: dict[str, Key] = {}
        self._stamp: tuple[int, ...] = ()
        self._looked = clock()
        self._read()

    def authenticate(self, token: str) -> Key:
        """Return the key that `token` opens; raises Unauthorized."""
        self._look_again()
        wanted, found = digest(token), None
        for key in list(self._keys.values()):  # all of them, so that the time doesn't tell which one was near
            if hmac.compare_digest(wanted, key.sha256):
                found = key
        if found is None:
            raise Unauthorized("the API key is not known", hint="send it as `Authorization: Bearer KEY`")
        return found

    def _look_again(self) -> None:
        with self._lock:
            if self._clock() - self._looked < LOOK_AGAIN:
                return
            self._looked = self._clock()
            try:
                self._read()
            except SettingError as error:
                log.error("the known API keys stay: %s", error)

    def _read(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            tables = tomllib.loads(self._path.read_text())
        except (OSError, ValueError) as error:
            raise SettingError(f"API_KEYS_FILE={self._path} can't be read: {error}") from None
        self._keys = {name: self._key(name, table) for name, table in tables.items()}

    def _key(self, name: str, table: object) -> Key:
        if not isinstance(table, dict) or not re.fullmatch("[0-9a-f]{64}", str(table.get("sha256"))):
            raise SettingError(f"API_KEYS_FILE={self._path}: [{name}] needs sha256, 64 hexadecimal digits")
        limits = {field: table.get(field, 0) for field in FIELDS - {"sha256"}}
        if unknown := set(table) - FIELDS:
            raise SettingError(f"API_KEYS_FILE={self._path}: [{name}] has unknown fields: {', '.join(sorted(unknown))}")
        for field, value in limits.items():
            if type(value) is not int or value < 0:
                raise SettingError(f"API_KEYS_FILE={self._path}: [{name}] {field} must be a whole number, 0 or more")
        key = self._keys.get(name) or Key(name, self._clock)  # the one in use keeps what it has counted
        key.sha256, key.requests_per_minute, key.concurrent = (
            table["sha256"],
            limits["requests_per_minute"],
            limits["concurrent"],
        )
        return key


def main() -> None:
    """Make a key for the client named on the command line."""
    if len(sys.argv) != 2 or not re.fullmatch(r"[A-Za-z0-9_-]+", sys.argv[1]):
        sys.exit("usage: python -m service.keys NAME   (letters, digits, _ and -)")
    token = f"sluice-{secrets.token_urlsafe(32)}"
    sys.stderr.write(f"The key of {sys.argv[1]}, shown only now: {token}\nFor the file in API_KEYS_FILE:\n")
    sys.stdout.write(f'[{sys.argv[1]}]\nsha256 = "{digest(token)}"\nrequests_per_minute = 60\nconcurrent = 4\n')


if __name__ == "__main__":
    main()
