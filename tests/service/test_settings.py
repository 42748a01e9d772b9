import os
import re
from pathlib import Path

import pytest

from service.cpus import available_cpus
from service.settings import SettingError, Settings, ollama_url


def test_the_defaults_are_valid_and_empty_variables_count_as_unset() -> None:
    assert Settings.from_environ({"SLOTS": "", "PORT": " "}) == Settings()


def test_a_variable_is_read_in_its_type() -> None:
    settings = Settings.from_environ({"SLOTS": "8", "QUEUE_TIMEOUT": "2.5", "MODEL": "llava"})
    assert (settings.slots, settings.queue_timeout, settings.model) == (8, 2.5, "llava")


def test_threads_are_the_cpus_unless_given() -> None:
    assert Settings().threads >= 1
    assert Settings(threads=3).threads == 3


@pytest.mark.parametrize(
    ("quota", "cpus"), [("50000 100000", 1), ("100000 100000", 1), ("190000 100000", 1), ("max 100000", None)]
)
def test_threads_keep_to_the_cpu_quota_of_the_container(tmp_path: Path, quota: str, cpus: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert available_cpus(tmp_path) == (cpus or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SLOTS", "many", "SLOTS='many' is not a whole number"),
        ("QUEUE_TIMEOUT", "soon", "QUEUE_TIMEOUT='soon' is not a number"),
        ("QUEUE_TIMEOUT", "nan", "QUEUE_TIMEOUT=nan is out of range"),
        ("SLOTS", "0", "SLOTS=0 is out of range: 1 to 256 is allowed"),
        ("PORT", "70000", "PORT=70000 is out of range"),
        ("PORT", "9090", "PORT and PRIVATE_PORT are both 9090"),
        ("MAX_TOKENS", "2048", "MAX_TOKENS=2048 leaves no room for a prompt in CONTEXT_LENGTH=2048"),
        ("OLLAMA_HOST", "https://ollama", "OLLAMA_HOST='https://ollama' must be http://HOST:PORT"),
        ("OLLAMA_HOST", "a:b", "OLLAMA_HOST='a:b' is not an address"),
        ("OLLAMA_HOST", "[::1", "OLLAMA_HOST='[::1' is not an address"),
        ("HOST", "localhost:5000", "HOST='localhost:5000' is not an address such as 0.0.0.0 or ::1, without a port"),
        ("HOST", "[::1]:5000", "HOST='[::1]:5000' is not an address"),
        ("RELEASE", "a b", "RELEASE='a b' is not a name of letters, digits, `.`, `-` and `_`"),
        ("PRIVATE_HOST", "[localhost]", "PRIVATE_HOST='[localhost]' is not an address"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=re.escape(complaint)):
        Settings.from_environ({variable: value})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("gpu-box", "http://gpu-box:11434"),
        ("http://gpu-box:80/", "http://gpu-box:80"),
        ("[::1]:5", "http://[::1]:5"),
        ("http://[::1]:5/", "http://[::1]:5"),
        ("::1", "http://[::1]:11434"),
        ("[::]", "http://[::1]:11434"),
    ],
)
def test_ollamas_address_is_read_as_ollama_reads_it(text: str, url: str) -> None:
    assert ollama_url(text) == url


@pytest.mark.parametrize(
    ("text", "host"), [("::", "::"), ("[::1]", "::1"), ("fe80::1%eth0", "fe80::1%eth0"), ("localhost", "localhost")]
)
def test_an_address_to_listen_on_may_be_of_ipv6(text: str, host: str) -> None:
    settings = Settings.from_environ({"HOST": text, "PRIVATE_HOST": text})
    assert (settings.host, settings.private_host) == (host, host)
