"""All settings of the service, read once from the environment."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from typing import Any, Self
from urllib.parse import urlsplit

from service import addresses
from service.cpus import available_cpus
from service.model_names import ModelNames

KINDS = {str(int): "a whole number", str(float): "a number"}
REFUSING_THREADS = 64  # of a front, in addition to one for each request in progress
CHECKING_THREADS = 16  # in addition: of requests whose schemas are checked; each takes up to a second of CPU
LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a client reaches a server that listens on all addresses
FRONT_MARGIN = 1.0  # seconds that a front waits longer than the deadlines behind it, whose errors say more


class SettingError(ValueError):
    """A setting has an invalid value; the message names the variable and what is allowed."""


class Role(StrEnum):
    """The part of a request's path that a process serves: all, or on a cluster what is before or after the queue."""

    ALL = "all"
    FRONT = "front"
    BACK = "back"


def knob(default: Any, doc: str, low: float | None = None, high: float | None = None) -> Any:
    """Declare a setting: its default, its description in docs/settings.md, and its range."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The service's configuration. The environment variables are the fields' names in upper case."""

    role: Role = knob(  # noqa: RUF009 - enum members are immutable
        Role.ALL,
        "On a cluster `front` checks requests and passes them to `UPSTREAM`, and `back` runs them in the model's "
        "pod; `all` does both in one process.",
    )
    upstream: str = knob("http://127.0.0.1:8080", "Address of the HAProxy to which a front passes requests.")
    max_in_flight: int = knob(
        256,
        "Requests that a front may have in progress; further ones are refused. Its models share them equally.",
        1,
        4096,
    )
    host: str = knob(
        "127.0.0.1", "Address the public port binds to; the image sets `0.0.0.0`, and `::` takes IPv6 and IPv4."
    )
    port: int = knob(5000, "Public port: the page and the API.", 1, 65535)
    private_host: str = knob("127.0.0.1", "Address the private port binds to; the image sets `0.0.0.0`.")
    private_port: int = knob(9090, "Private port: `/healthz`, `/readyz`, `/metrics`.", 1, 65535)
    ollama_host: str = knob("http://127.0.0.1:11434", "Ollama's address, in any form that Ollama's own client accepts.")
    ollama_memory_mib: int = knob(
        0,
        "Memory limit of each of Ollama's processes, in MiB, if the service starts Ollama; each model has one. 0 means "
        "nine tenths of the memory that is free then.",
        0,
        16_777_216,
    )
    model: str = knob(
        "moondream",
        "Name of the served model in Ollama, or names of several, separated by blanks: the first is the default.",
    )
    aliases: str = knob(
        "",
        "Further names of served models, such as `gpt-4o-mini=moondream`, separated by blanks or commas.",
    )
    slots: int = knob(4, "Requests of a model that generate at the same time: Ollama's `OLLAMA_NUM_PARALLEL`.", 1, 256)
    threads: int = knob(0, "CPU threads of Ollama; 0 means all CPUs that this process may use.", 0, 1024)
    prompt_cache_mib: int = knob(
        512,
        "Memory for llama-server's cache of prompts that have lost their slot, in MiB, if the service starts Ollama; "
        "0 disables it.",
        0,
        1_048_576,
    )
    context_length: int = knob(2048, "Context of a slot, in tokens: prompt and answer together.", 128, 1_048_576)
    max_queue: int = knob(64, "Requests that may wait for a model's slots; further ones are refused at once.", 0, 4096)
    queue_timeout: float = knob(30.0, "Seconds a request may wait for a slot.", 0.1, 3600)
    generation_timeout: float = knob(120.0, "Seconds from getting a slot to the last token.", 1, 3600)
    max_tokens: int = knob(512, "Longest answer in tokens, and the default of `max_tokens`.", 1, 1_048_576)
    max_prompt_chars: int = knob(
        16384, "Largest request, in characters: all of its texts, without images.", 1, 8_388_608
    )
    max_body_bytes: int = knob(8_388_608, "Largest request body, in bytes.", 1024, 268_435_456)
    max_image_pixels: int = knob(
        16_000_000, "Largest image, in pixels, and the limit for all images of a request together.", 1, 1_000_000_000
    )
    # The largest square that Llama 3.2 Vision uses (Ollama's model/models/mllama/process_image.go: tiles of 560);
    # LLaVA and Moondream use 336 and 378, Gemma 3 uses 896, Qwen 2.5 VL two megapixels.
    max_image_edge: int = knob(1120, "Longer edge, in pixels, to which larger images are scaled.", 32, 4096)
    max_images: int = knob(4, "Images in one request.", 0, 64)
    head_timeout: float = knob(10.0, "Seconds to receive a request's head, from its first byte.", 0.1, 600)
    body_timeout: float = knob(60.0, "Seconds to receive a request's body.", 0.1, 600)
    write_timeout: float = knob(60.0, "Seconds to send the rest of a complete answer.", 0.1, 600)
    max_connections: int = knob(
        4096, "Connections at once; beyond that, the one idle for longest is closed.", 16, 65_536
    )
    receive_mib: int = knob(64, "Memory for requests that are incomplete or not yet checked, in MiB.", 1, 65_536)
    send_mib: int = knob(64, "Memory for answers that clients haven't read yet, in MiB.", 1, 65_536)
    keepalive: int = knob(
        75, "Seconds an idle connection stays open: more than the idle timeout of a load balancer in front.", 1, 7200
    )
    api_keys_file: str = knob(
        "", "TOML file with the hashes of the API keys, reloaded when it changes; empty disables keys."
    )
    quota_shares: int = knob(
        1, "Gateways that each grant an equal share of every key's quota: see [API keys](api.md#api-keys).", 1, 1024
    )
    allowed_hosts: str = knob(
        "",
        "Allowed values of `Host` other than loopback names, separated by commas. Empty: only loopback names if "
        "`HOST` is a loopback address, otherwise any.",
    )
    allowed_origins: str = knob(
        "",
        "Origins of other sites whose pages may use the API, such as `https://app.example.com`, separated by commas; "
        "`*` allows all, only with API keys.",
    )
    hsts_seconds: int = knob(
        0,
        "Seconds for which browsers may use HTTPS only (`Strict-Transport-Security`), where a load balancer ends TLS; "
        "0 sends no such header.",
        0,
        63_072_000,
    )
    release: str = knob(
        "",
        "Which release the process is of; responses say it in `Sluice-Release`, a front's with that of the pod that "
        "answered. Empty: they don't.",
    )
    prestop: float = knob(0.0, "Seconds after SIGTERM in which requests are still accepted.", 0, 600)

    def __post_init__(self) -> None:
        for f in fields(self):
            value, low, high = getattr(self, f.name), f.metadata["low"], f.metadata["high"]
            if low is not None and not low <= value <= high:
                raise SettingError(f"{f.name.upper()}={value} is out of range: {low} to {high} is allowed")
        if self.max_tokens >= self.context_length:
            raise SettingError(
                f"MAX_TOKENS={self.max_tokens} leaves no room for a prompt in CONTEXT_LENGTH={self.context_length}: "
                "lower the first or raise the second"
            )
        if self.port == self.private_port:
            raise SettingError(f"PORT and PRIVATE_PORT are both {self.port}: metrics must not be public")
        if not re.fullmatch(r"[\w.-]*", self.release, re.ASCII):
            raise SettingError(f"RELEASE={self.release!r} is not a name of letters, digits, `.`, `-` and `_`")
        for name in ("host", "private_host"):
            object.__setattr__(self, name, listened_on(name.upper(), getattr(self, name)))
        self._check_browsers()
        self._check_models()
        object.__setattr__(self, "ollama_host", ollama_url(self.ollama_host))
        object.__setattr__(self, "upstream", http_url("UPSTREAM", self.upstream, 8080))
        object.__setattr__(self, "threads", self.threads or available_cpus())

    def _check_models(self) -> None:
        try:
            count = len(self.names.models)
        except ValueError as error:
            raise SettingError(str(error)) from None
        if count > 1 and self.role is Role.BACK:
            raise SettingError(f"ROLE=back serves one model, and MODEL names {count}: {self.names.told()}")
        if count > self.max_in_flight:
            raise SettingError(f"MAX_IN_FLIGHT={self.max_in_flight} has no place for each of {count} models: raise it")

    def _check_browsers(self) -> None:
        for name in addresses.listed(self.allowed_hosts):
            if addresses.host_name(name) != name.strip("[]").lower():
                raise SettingError(f"ALLOWED_HOSTS: {name!r} is not a name such as llm.example.com, without a port")
        for origin in addresses.listed(self.allowed_origins):
            if origin == "*" and not self.api_keys_file:
                raise SettingError("ALLOWED_ORIGINS=* lets every web page in: it needs API_KEYS_FILE")
            if origin != "*" and not addresses.origin(origin):
                raise SettingError(f"ALLOWED_ORIGINS: {origin!r} is not an origin such as https://app.example.com")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from `environ`; an empty variable counts as unset.

        Raises SettingError with the variable's name and what is allowed.
        """
        values: dict[str, Any] = {}
        for f in fields(cls):
            text = environ.get(f.name.upper(), "").strip()
            if not text:
                continue
            try:
                values[f.name] = f.type(text)  # type: ignore[operator]
            except ValueError:
                wanted = KINDS.get(str(f.type), f"one of {', '.join(Role)}")
                raise SettingError(f"{f.name.upper()}={text!r} is not {wanted}") from None
        return cls(**values)

    @cached_property
    def names(self) -> ModelNames:
        """Return the names of the served models, and their aliases."""
        return ModelNames.read(self.model, self.aliases)

    def each_model(self) -> tuple[Self, ...]:
        """Return the settings of each model alone, the default's first."""
        places = self.max_in_flight // len(self.names.models)  # so that one model's requests leave the others theirs
        return tuple(replace(self, model=name, aliases="", max_in_flight=places) for name in self.names.models)

    @property
    def worker_threads(self) -> int:
        """Return the gateway's threads: with fewer than 4 per slot and place in the queue, refusals have to wait.

        A front has no queue, and far more requests in progress; it needs only a few threads for refusals.
        """
        if self.role is Role.FRONT:
            return self.max_in_flight + REFUSING_THREADS + CHECKING_THREADS
        return 4 * (self.slots + self.max_queue) * len(self.names.models) + CHECKING_THREADS

    @property
    def answer_timeout(self) -> float:
        """Return the seconds from sending a request to Ollama, or HAProxy, to the last byte of its answer.

        Behind HAProxy it may wait in two queues: in HAProxy's, and after a redispatch also in the pod's.
        """
        queues = 2 * self.queue_timeout + FRONT_MARGIN if self.role is Role.FRONT else 0
        return queues + self.generation_timeout


def listened_on(name: str, text: str) -> str:
    """Return the address in the variable `name` for a socket: IPv6 without brackets. Raises SettingError."""
    host = text.removeprefix("[").removesuffix("]")
    if ":" in host or host != text:
        try:
            ip_address(host)
        except ValueError:
            raise SettingError(f"{name}={text!r} is not an address such as 0.0.0.0 or ::1, without a port") from None
    return host


def ollama_url(text: str) -> str:
    """Return `http://HOST:PORT` for an address as in OLLAMA_HOST: scheme, host and port are each optional.

    0.0.0.0 and :: are addresses to listen on; clients connect to 127.0.0.1 and ::1 instead. Raises SettingError.
    """
    return http_url("OLLAMA_HOST", text, 11434)


def http_url(name: str, text: str, default_port: int) -> str:
    """Return `http://HOST:PORT` for the address in the variable `name`; see ollama_url(). Raises SettingError."""
    scheme, _, address = text.rpartition("://")
    with suppress(ValueError):  # as in Ollama, an IPv6 address without a port needs no brackets
        address = f"[{IPv6Address(address.rstrip('/'))}]"
    try:
        parts = urlsplit(f"{scheme or 'http'}://{address}")
        host, port = parts.hostname or "127.0.0.1", parts.port or default_port
    except ValueError as error:
        example = f"http://127.0.0.1:{default_port}"
        raise SettingError(f"{name}={text!r} is not an address such as {example}: {error}") from None
    if parts.scheme != "http" or parts.path.strip("/"):
        raise SettingError(f"{name}={text!r} must be http://HOST:PORT: neither TLS nor a path is served there")
    return f"http://{addresses.with_port(LOCAL.get(host, host), port)}"
