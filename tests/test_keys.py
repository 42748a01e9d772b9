import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from service.errors import QuotaExceeded, Unauthorized
from service.keys import Keys, digest
from service.settings import SettingError
from tests.clock import Clock
from tests.servers import ROOT


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def entry(name: str, token: str, **limits: int) -> str:
    return "\n".join([f"[{name}]", f'sha256 = "{digest(token)}"', *(f"{k} = {v}" for k, v in limits.items())]) + "\n"


def test_a_known_key_opens_and_an_unknown_one_does_not(tmp_path: Path) -> None:
    keys = Keys(write(tmp_path / "keys", entry("alice", "a") + entry("bob", "b")))
    assert keys.authenticate("b").name == "bob"
    with pytest.raises(Unauthorized):
        keys.authenticate("c")


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a"))
    keys = Keys(path, clock)
    new = write(tmp_path / "new", entry("bob", "b"))
    new.replace(path)
    clock.now += 1
    assert keys.authenticate("b").name == "bob"
    with pytest.raises(Unauthorized):
        keys.authenticate("a")


def test_a_broken_file_leaves_the_known_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a"))
    keys = Keys(path, clock)
    write(path, "[alice")
    clock.now += 1
    assert keys.authenticate("a").name == "alice"
    assert "the known API keys stay" in caplog.text


def test_a_reload_keeps_what_a_key_has_used(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a", concurrent=1))
    keys = Keys(path, clock)
    keys.authenticate("a").acquire(1)
    write(path, entry("alice", "a", concurrent=1) + entry("bob", "b"))
    clock.now += 1
    with pytest.raises(QuotaExceeded):
        keys.authenticate("a").acquire(1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\n", "[a] needs sha256"),
        ('[a]\nsha256 = "abc"\n', "[a] needs sha256"),
        ("a = 1\n", "[a] needs sha256"),
        (entry("a", "a") + "rpm = 3\n", "unknown fields: rpm"),
        (entry("a", "a", concurrent=-1), "[a] concurrent must be a whole number"),
    ],
)
def test_a_bad_file_ends_the_start_with_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingError) as error:
        Keys(write(tmp_path / "keys", text))
    assert complaint in str(error.value)


def test_a_missing_file_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="API_KEYS_FILE="):
        Keys(tmp_path / "none")


def test_requests_a_minute_are_a_bucket_that_refills(tmp_path: Path) -> None:
    clock = Clock()
    key = Keys(write(tmp_path / "keys", entry("a", "a", requests_per_minute=2)), clock).authenticate("a")
    key.acquire(1)()
    key.acquire(1)()
    with pytest.raises(QuotaExceeded) as error:
        key.acquire(1)
    assert error.value.headers == {"Retry-After": "30"}
    clock.now += 30
    key.acquire(1)


def test_concurrent_requests_come_back_when_they_end(tmp_path: Path) -> None:
    key = Keys(write(tmp_path / "keys", entry("a", "a", concurrent=1))).authenticate("a")
    release = key.acquire(1)
    with pytest.raises(QuotaExceeded) as error:
        key.acquire(7.2)
    assert error.value.headers == {"Retry-After": "8"}
    release()
    key.acquire(1)


def test_every_route_of_the_api_needs_the_key(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    path = write(tmp_path / "keys", entry("alice", "secret", requests_per_minute=1))
    client = make_app(api_keys_file=str(path)).test_client()
    for method, route in [
        ("POST", "/generate"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
    ]:
        reply = client.open(route, method=method, json={} if method == "POST" else None)
        assert (reply.status_code, reply.json["error"]["code"]) == (401, "unauthorized")
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    headers = {"Authorization": "Bearer secret"}
    assert client.post("/generate", json={"prompt": "x"}, headers=headers).status_code == 200
    reply = client.post("/generate", json={"prompt": "x"}, headers=headers)
    assert (reply.status_code, reply.json["error"]["code"]) == (429, "quota_exceeded")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60


def test_the_command_makes_a_key_and_its_entry() -> None:
    command = [sys.executable, "-m", "service.keys", "carol"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    token = next(word for word in made.stderr.split() if word.startswith("sluice-"))
    assert tomllib.loads(made.stdout)["carol"]["sha256"] == digest(token)
    assert token not in made.stdout
