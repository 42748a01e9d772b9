import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask

from service import metrics
from service.admission import Priority
from service.errors import Forbidden, QuotaExceeded, Unauthorized
from service.keys import Key, Keys, digest
from service.settings import SettingError
from testbed import ROOT
from testbed.fetching import fetch
from testbed.gateway import serve
from testbed.stand_in import MODEL, StandIn
from tests.support.api_keys import SERVED, entry, write
from tests.support.clock import Clock


def granted(key: Key, tries: int) -> int:
    """Return how many of so many requests one after the other are let in."""
    count = 0
    for _ in range(tries):
        try:
            key.acquire(1)()
        except QuotaExceeded:
            continue
        count += 1
    return count


def test_a_known_key_opens_and_an_unknown_one_does_not(tmp_path: Path) -> None:
    keys = Keys(write(tmp_path / "keys", entry("alice", "a") + entry("bob", "b")), SERVED)
    assert keys.authenticate("b").name == "bob"
    with pytest.raises(Unauthorized):
        keys.authenticate("c")


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a"))
    keys = Keys(path, SERVED, clock)
    new = write(tmp_path / "new", entry("bob", "b"))
    new.replace(path)
    clock.now += 1
    assert keys.authenticate("b").name == "bob"
    with pytest.raises(Unauthorized):
        keys.authenticate("a")


def test_a_broken_file_leaves_the_known_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a"))
    keys = Keys(path, SERVED, clock)
    write(path, "[alice")
    clock.now += 1
    assert keys.authenticate("a").name == "alice"
    assert "keeping the API keys already loaded" in caplog.text


def test_a_file_that_could_not_be_read_is_read_again_without_another_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a"))
    keys = Keys(path, SERVED, clock)
    write(path, entry("bob", "b"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", Mock(side_effect=PermissionError))
        clock.now += 1
        assert keys.authenticate("a").name == "alice"
    clock.now += 1
    assert keys.authenticate("b").name == "bob"


def test_a_reload_keeps_what_a_key_has_used(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a", concurrent=1))
    keys = Keys(path, SERVED, clock)
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
        (entry("a", "a") + "spent_until = 2026-12-01\n", "[a] spent_until must be a time with its zone"),
        (entry("a", "a", priorities=["urgent"]), '[a] priorities must be a list of "interactive", "batch" or "smoke"'),
        (entry("a", "a", priorities=[]), "[a] priorities must be a list"),
        (entry("a", "a", priorities=1), "[a] priorities must be a list"),
        (entry("a", "a", models=[]), f"[a] models must be a list of served models, which are {MODEL}"),
        (entry("a", "a") + 'models = "stand-in"\n', "[a] models must be a list of served models"),
        (entry("a", "a", models=["llava"]), f"[a] models: llava isn't served; served models: {MODEL}"),
    ],
)
def test_a_bad_file_ends_the_start_with_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingError) as error:
        Keys(write(tmp_path / "keys", text), SERVED)
    assert complaint in str(error.value)


def test_a_missing_file_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="API_KEYS_FILE="):
        Keys(tmp_path / "none", SERVED)


def test_no_minute_has_more_requests_than_the_quota_whenever_it_begins(tmp_path: Path) -> None:
    clock = Clock()
    key = Keys(write(tmp_path / "keys", entry("a", "a", requests_per_minute=3)), SERVED, clock).authenticate("a")
    times = []
    for _ in range(600):
        if granted(key, 1):
            times.append(clock.now)
        clock.now += 0.7
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[3:], strict=False))
    assert len(times) >= 3 * 7 - 1  # and the seven minutes are used


def test_the_whole_minutes_quota_may_come_at_once_and_retry_after_is_exact(tmp_path: Path) -> None:
    clock = Clock()
    key = Keys(write(tmp_path / "keys", entry("a", "a", requests_per_minute=2)), SERVED, clock).authenticate("a")
    key.acquire(1)()
    clock.now += 20
    key.acquire(1)()
    with pytest.raises(QuotaExceeded, match=r"this key may send 2 requests a minute$") as error:
        key.acquire(1)
    assert error.value.headers == {"Retry-After": "40"}
    clock.now += 39
    assert granted(key, 1) == 0
    clock.now += 1
    assert granted(key, 2) == 1


def test_a_quota_that_is_lowered_counts_what_was_already_used(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("a", "a", requests_per_minute=5))
    keys = Keys(path, SERVED, clock)
    assert granted(keys.authenticate("a"), 9) == 5
    write(path, entry("a", "a", requests_per_minute=2, concurrent=9))
    clock.now += 10
    with pytest.raises(QuotaExceeded) as error:
        keys.authenticate("a").acquire(1)
    assert error.value.headers == {"Retry-After": "50"}


@pytest.mark.parametrize(("quota", "shares", "each"), [(10, 2, 5), (10, 3, 3), (10, 1, 10), (1, 2, 1), (0, 2, 40)])
def test_a_quota_is_divided_by_the_gateways_that_grant_it(tmp_path: Path, quota: int, shares: int, each: int) -> None:
    path = write(tmp_path / "keys", entry("a", "a", requests_per_minute=quota))
    gateways = [Keys(path, SERVED, Clock(), shares=shares).authenticate("a") for _ in range(shares)]
    assert [granted(key, 40) for key in gateways] == [each] * shares


def test_concurrent_requests_are_divided_too_and_the_sentence_says_how(tmp_path: Path) -> None:
    key = Keys(write(tmp_path / "keys", entry("a", "a", concurrent=5)), SERVED, shares=2).authenticate("a")
    key.acquire(1)
    key.acquire(1)
    with pytest.raises(QuotaExceeded, match="this key may run 5 requests at once, 2 at each of 2 gateways"):
        key.acquire(1)


@pytest.mark.usefixtures("programs")
def test_a_key_of_ten_a_minute_gets_ten_answers_from_two_gateways(stand_in: StandIn, tmp_path: Path) -> None:
    path = write(tmp_path / "keys", entry("alice", "secret", requests_per_minute=10))
    settings = {"api_keys_file": path, "quota_shares": 2}
    with (
        serve(stand_in.url, tmp_path / "log1", **settings) as one,
        serve(stand_in.url, tmp_path / "log2", **settings) as two,
    ):
        alice = {"Authorization": "Bearer secret"}
        replies = [fetch(f"{served.url}/generate", {"prompt": "x"}, alice) for served in [one, two] * 10]
    assert sorted(reply.status for reply in replies) == [200] * 10 + [429] * 10
    refused = next(reply for reply in replies if reply.status == 429)
    assert "10 requests a minute, 5 at each of 2 gateways" in refused.json()["error"]["message"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("allowed", "asked", "given"),
    [
        (["interactive", "batch"], None, "interactive"),
        (["interactive", "batch"], "Batch", "batch"),
        (["batch", "interactive"], None, "interactive"),
        (["batch"], None, "batch"),
        (["batch"], "batch", "batch"),
        (["interactive"], None, "interactive"),
        (None, None, "interactive"),
        (None, "batch", "batch"),
        (["smoke"], None, "smoke"),
        (["smoke"], "smoke", "smoke"),
        (["interactive", "smoke"], None, "interactive"),
        (["interactive"], "smoke", None),
        (["smoke"], "interactive", None),
        (["batch"], "interactive", None),
        (["interactive"], "batch", None),
    ],
)
def test_a_key_gets_only_the_priorities_of_its_entry(
    make_app: Callable[..., Flask],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: list[str] | None,
    asked: str | None,
    given: str | None,
) -> None:
    fields: dict[str, int | list[str]] = {"priorities": allowed} if allowed else {}
    app = make_app(api_keys_file=str(write(tmp_path / "keys", entry("alice", "secret", **fields))))
    admission, entered = app.extensions["sluice"].default.admission, list[Priority]()
    enter = admission.enter

    def note(priority: Priority, key: str | None) -> Any:
        entered.append(priority)
        return enter(priority, key)

    monkeypatch.setattr(admission, "enter", note)
    headers = {"Authorization": "Bearer secret"} | ({"X-Priority": asked} if asked else {})
    reply = app.test_client().post("/generate", json={"prompt": "x"}, headers=headers)
    if given is None:
        assert (reply.status_code, reply.json["error"]["code"]) == (403, "forbidden")
        assert (
            reply.json["error"]["message"] == f"X-Priority: this key may ask for {allowed[0] if allowed else ''} only"
        )
    assert entered == ([given] if given else [])


def test_only_a_key_that_says_so_may_ask_for_the_smoke_tests_class(
    make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    smoke = {"X-Priority": "smoke"}
    app = make_app(api_keys_file=str(write(tmp_path / "keys", entry("alice", "secret"))))
    headers = smoke | {"Authorization": "Bearer secret"}
    reply = app.test_client().post("/generate", json={"prompt": "x"}, headers=headers)
    assert reply.status_code == 403
    assert reply.json["error"]["message"] == "X-Priority: this key may ask for interactive or batch only"
    reply = make_app().test_client().post("/generate", json={"prompt": "x"}, headers=smoke)
    assert reply.status_code == 403
    assert reply.json["error"]["message"] == "X-Priority: smoke needs an API key that allows it"


def test_a_broken_file_changes_no_key_at_all(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("alice", "a"))
    keys = Keys(path, SERVED, clock)
    write(path, entry("alice", "a", priorities=["batch"]) + "[bob]\n")
    clock.now += 1
    alice = keys.authenticate("a")
    assert alice.priority(Priority.INTERACTIVE) is Priority.INTERACTIVE
    write(path, entry("alice", "a", priorities=["batch"]))
    clock.now += 1
    alice = keys.authenticate("a")
    with pytest.raises(Forbidden):
        alice.priority(Priority.INTERACTIVE)


def test_concurrent_requests_come_back_when_they_end(tmp_path: Path) -> None:
    key = Keys(write(tmp_path / "keys", entry("a", "a", concurrent=1)), SERVED).authenticate("a")
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
        ("POST", "/v1/responses"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/stand-in"),
    ]:
        reply = client.open(route, method=method, json={} if method == "POST" else None)
        code = "invalid_api_key" if route.startswith("/v1") else "unauthorized"  # as OpenAI's clients know it
        assert (reply.status_code, reply.json["error"]["code"]) == (401, code)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    headers = {"Authorization": "Bearer secret"}
    assert client.post("/generate", json={"prompt": "x"}, headers=headers).status_code == 200
    reply = client.post("/generate", json={"prompt": "x"}, headers=headers)
    assert (reply.status_code, reply.json["error"]["code"]) == (429, "quota_exceeded")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60


@pytest.mark.usefixtures("programs")
def test_the_command_makes_a_key_and_its_entry() -> None:
    command = [sys.executable, "-m", "service.keys", "carol"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    token = next(word for word in made.stderr.split() if word.startswith("sluice-"))
    made_entry = tomllib.loads(made.stdout)["carol"]
    assert (made_entry["sha256"], made_entry["priorities"]) == (digest(token), ["interactive", "batch"])
    assert token not in made.stdout
    told = f"The key of carol, shown only now: {token}\nFor the file in API_KEYS_FILE:\n"
    assert made.stderr == told  # and no warning that the module was there before


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("name", ["--help", "a b", ""])
def test_what_is_no_name_of_a_key_gets_the_usage_and_no_key(name: str) -> None:
    refused = subprocess.run([sys.executable, "-m", "service.keys", name], cwd=ROOT, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("usage: python -m service.keys NAME")


def test_answers_and_tokens_are_counted_for_each_key_and_many_keys_share_a_series(
    make_app: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_KEYS", 2)
    path = write(tmp_path / "keys", "".join(entry(name, name) for name in "abcd"))
    app = make_app(api_keys_file=str(path))
    for name, prompt in (("a", "Hi"), ("a", 1), ("b", "Hi"), ("c", "Hi"), ("d", "Hi"), ("a", "Hi")):
        asked = {"json": {"prompt": prompt}, "headers": {"Authorization": f"Bearer {name}"}}
        app.test_client().post("/generate", **asked).close()
    count = app.extensions["sluice"].metrics.registry.get_sample_value
    answered = {"key": "a", "status": "2xx"}
    assert count("sluice_key_requests_total", answered) == 2
    assert count("sluice_key_requests_total", {**answered, "status": "4xx"}) == 1
    assert count("sluice_key_tokens_total", {"key": "a", "type": "completion"}) == 6
    assert count("sluice_key_requests_total", {**answered, "key": "(other)"}) == 2
    assert count("sluice_key_requests_total", {**answered, "key": "c"}) is None


def test_tokens_of_the_last_minute_are_limited_and_the_wait_is_until_enough_are_old(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", entry("a", "a", tokens_per_minute=100))
    key = Keys(path, SERVED, clock, shares=2).authenticate("a")
    for tokens in (20, 40):
        key.acquire(1)()
        key.use(tokens)
        clock.now += 10
    with pytest.raises(QuotaExceeded, match="may use 100 tokens a minute, 50 at each of 2 gateways") as refused:
        key.acquire(1)
    assert refused.value.retry_after == 40  # until the first 20 are a minute old
    clock.now += 40
    key.acquire(1)()


def test_a_key_whose_budget_is_spent_hears_when_it_renews(tmp_path: Path) -> None:
    def opened(until: datetime) -> Key:
        path = write(tmp_path / "keys", entry("a", "a") + f"spent_until = {until:%Y-%m-%dT%H:%M:%SZ}\n")
        return Keys(path, SERVED).authenticate("a")

    now = datetime.now(UTC)
    with pytest.raises(QuotaExceeded, match="budget is spent; it renews at 20") as refused:
        opened(now + timedelta(days=2)).acquire(1)
    assert refused.value.retry_after == pytest.approx(2 * 86_400, abs=60)
    opened(now - timedelta(days=2)).acquire(1)()


def test_used_tokens_count_for_the_key_once_its_answer_is_complete(
    make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    path = write(tmp_path / "keys", entry("alice", "secret", tokens_per_minute=10))
    client = make_app(api_keys_file=str(path)).test_client()
    asked = {"json": {"prompt": "Hi"}, "headers": {"Authorization": "Bearer secret"}}  # 7 tokens, and 3 of the answer
    replies = [client.post("/generate", **asked) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 429]
    error = replies[1].json["error"]
    assert (error["message"], error["hint"]) == ("this key may use 10 tokens a minute", "see Retry-After")
    assert 50 < int(replies[1].headers["Retry-After"]) <= 60


def test_a_caller_that_leaves_before_the_end_has_used_the_tokens_that_came(
    make_app: Callable[..., Flask], stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.tokens = ["word "] * 20
    path = write(tmp_path / "keys", entry("alice", "secret", tokens_per_minute=10))
    client = make_app(api_keys_file=str(path)).test_client()
    headers = {"Authorization": "Bearer secret"}
    for status in (200, 429):
        reply = client.post("/generate", json={"prompt": "Hi", "stream": True}, headers=headers)
        assert reply.status_code == status
        for _ in zip(range(15), reply.iter_encoded(), strict=False):
            pass
        reply.close()
