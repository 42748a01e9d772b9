"""API keys: a file of hashes that is reloaded when it changes; each key has a quota, its priorities and its models."""

import hashlib
import hmac
import logging
import re
import threading
import time
import tomllib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.admission import FOR_EVERYBODY, Priority
from service.errors import Forbidden, QuotaExceeded, Unauthorized
from service.model_names import ModelNames
from service.settings import SettingError

log = logging.getLogger("sluice")

LOOK_AGAIN = 1.0  # seconds between two checks of the file's time stamp
MINUTE = 60.0
LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent")
FIELDS = {"sha256", "priorities", "models", "spent_until", *LIMITS}


def digest(token: str) -> str:
    """Return the SHA-256 of a key in hex. Keys have 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A key's entry in the file. A limit of 0 means no limit; the first of `priorities` is the default.

    models: that the key may use, by their names in MODEL. spent_until: when the key's budget renews, if it is spent.
    """

    sha256: str
    priorities: tuple[Priority, ...]
    models: frozenset[str]
    spent_until: datetime | None
    requests_per_minute: int
    tokens_per_minute: int
    concurrent: int


class Key:
    """One client's key, its priorities and models, and the used part of its quota.

    shares: processes between which the quota is divided; each knows only its own requests.
    """

    def __init__(self, name: str, entry: Entry, shares: int, clock: Callable[[], float]) -> None:
        self.name, self.entry = name, entry
        self._shares, self._clock, self._lock = shares, clock, threading.Lock()
        self._running = 0
        self._granted = deque[float]()  # the times of grants in the last minute
        self._tokens = deque[tuple[float, int]]()  # the tokens of requests that ended in the last minute

    def priority(self, asked: Priority | None) -> Priority:
        """Return the priority of a request: the one it asks for, or this key's default. Raises Forbidden."""
        if asked is None:
            return self.entry.priorities[0]
        if asked not in self.entry.priorities:
            raise Forbidden(f"X-Priority: this key may ask for {' or '.join(self.entry.priorities)} only")
        return asked

    def may_use(self, model: str) -> bool:
        """Say whether this key's requests may go to a served model."""
        return model in self.entry.models

    def acquire(self, service_time: float) -> Callable[[], None]:
        """Count a request against the quota, and return a function that releases its concurrent place.

        service_time: current seconds per request, for Retry-After. Raises QuotaExceeded.
        """
        self._check_budget()
        with self._lock:
            concurrent, a_minute = self.entry.concurrent, self.entry.requests_per_minute
            self._check_tokens(self.entry.tokens_per_minute)
            if concurrent and self._running >= self._share(concurrent):
                raise self._exceeded("run", concurrent, "requests at once", service_time)
            if a_minute:
                self._count_this_minute(a_minute)
            self._running += 1
        return self._release

    def _share(self, whole: int) -> int:
        """Return this process's share of a limit, rounded down so that all shares together don't exceed it."""
        return max(1, whole // self._shares)

    def _count_this_minute(self, limit: int) -> None:
        now, allowed, granted = self._clock(), self._share(limit), self._granted
        while granted and granted[0] <= now - MINUTE:
            granted.popleft()
        if len(granted) >= allowed:
            until = granted[len(granted) - allowed] + MINUTE
            raise self._exceeded("send", limit, "requests a minute", until - now)
        granted.append(now)

    def use(self, tokens: int) -> None:
        """Count the tokens of a request that has ended."""
        with self._lock:
            if self.entry.tokens_per_minute and tokens:
                self._tokens.append((self._clock(), tokens))

    def _check_tokens(self, limit: int) -> None:
        """Refuse a request while those that ended in the last minute have used up the tokens."""
        now = self._clock()
        while self._tokens and self._tokens[0][0] <= now - MINUTE:
            self._tokens.popleft()
        excess = sum(tokens for _, tokens in self._tokens) - self._share(limit)
        if not limit or excess < 0:
            return
        for ended, tokens in self._tokens:
            excess -= tokens
            if excess < 0:
                raise self._exceeded("use", limit, "tokens a minute", ended + MINUTE - now)

    def _check_budget(self) -> None:
        renews = self.entry.spent_until
        if renews is not None and (left := (renews - datetime.now(UTC)).total_seconds()) > 0:
            raise QuotaExceeded(f"this key's budget is spent; it renews at {renews.isoformat()}", retry_after=left)

    def _exceeded(self, verb: str, limit: int, what: str, retry_after: float) -> QuotaExceeded:
        message = f"this key may {verb} {limit} {what}"
        if self._shares > 1:
            message += f", {self._share(limit)} at each of {self._shares} gateways"
        return QuotaExceeded(message, hint="see Retry-After", retry_after=retry_after)

    def _release(self) -> None:
        with self._lock:
            self._running -= 1


class Keys:
    """The keys in a TOML file: a table for each client, with `sha256` and what else is in FIELDS.

    served: the models that entries may name. shares: processes that each grant an equal part of every quota. Raises
    SettingError if the first load fails; later on, a broken file is logged and the loaded keys stay valid.
    """

    def __init__(
        self, path: Path, served: ModelNames, clock: Callable[[], float] = time.monotonic, *, shares: int = 1
    ) -> None:
        self._path, self._served, self._clock, self._shares = path, served, clock, shares
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._stamp: tuple[int, ...] = ()
        self._looked = clock()
        self._read()

    def authenticate(self, token: str) -> Key:
        """Return the key of a token; raises Unauthorized."""
        self._look_again()
        wanted, found = digest(token), None
        for key in list(self._keys.values()):  # without an early exit, so that the time says nothing about the keys
            if hmac.compare_digest(wanted, key.entry.sha256):
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
                log.error("keeping the API keys already loaded: %s", error)

    def _read(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp == self._stamp:
                return
            text = self._path.read_text()
            self._stamp = stamp  # a file that can't be read is tried again
            tables = tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise SettingError(f"API_KEYS_FILE={self._path} can't be read: {error}") from None
        entries = {name: self._entry(name, table) for name, table in tables.items()}
        self._keys = {name: self._key(name, entry) for name, entry in entries.items()}  # once all are valid

    def _key(self, name: str, entry: Entry) -> Key:
        """Return a key with its current entry; a known key keeps its counts."""
        if known := self._keys.get(name):
            known.entry = entry
        return known or Key(name, entry, self._shares, self._clock)

    def _entry(self, name: str, table: object) -> Entry:
        if not isinstance(table, dict) or not re.fullmatch("[0-9a-f]{64}", str(table.get("sha256"))):
            raise self._bad(name, "needs sha256, 64 hexadecimal digits")
        if unknown := set(table) - FIELDS:
            raise self._bad(name, f"has unknown fields: {', '.join(sorted(unknown))}")
        limits = [table.get(field, 0) for field in LIMITS]
        for field, value in zip(LIMITS, limits, strict=True):
            if type(value) is not int or value < 0:
                raise self._bad(name, f"{field} must be a whole number, 0 or more")
        priorities = self._priorities(name, table.get("priorities", list(FOR_EVERYBODY)))
        models = self._models(name, table.get("models", list(self._served.models)))
        return Entry(table["sha256"], priorities, models, self._moment(name, table.get("spent_until")), *limits)

    def _moment(self, name: str, value: Any) -> datetime | None:
        if value is not None and not (isinstance(value, datetime) and value.tzinfo):
            raise self._bad(name, "spent_until must be a time with its zone, such as 2026-12-01T00:00:00Z")
        return value

    def _priorities(self, name: str, value: Any) -> tuple[Priority, ...]:
        """Return the priorities that a key may ask for, its default first."""
        if not isinstance(value, list) or not value or any(each not in list(Priority) for each in value):
            raise self._bad(name, 'priorities must be a list of "interactive", "batch" or "smoke"')
        return tuple(priority for priority in Priority if priority in value)

    def _models(self, name: str, value: Any) -> frozenset[str]:
        """Return the models that a key may use, by their names or aliases in the file."""
        if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
            raise self._bad(name, f"models must be a list of served models, which are {self._served.told()}")
        meant = {each: self._served.meant(each) for each in value}
        if missing := [each for each, model in meant.items() if model is None]:
            raise self._bad(name, f"models: {missing[0]} isn't served; served models: {self._served.told()}")
        return frozenset(model for model in meant.values() if model is not None)

    def _bad(self, name: str, complaint: str) -> SettingError:
        return SettingError(f"API_KEYS_FILE={self._path}: [{name}] {complaint}")
