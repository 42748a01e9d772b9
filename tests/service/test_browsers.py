from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser

from service.private_port import create_private_app
from service.settings import SettingError, Settings
from testbed.gateway import Served
from testbed.stand_in import StandIn
from testbed.waiting import eventually
from tests.support.api_keys import entry, write
from tests.support.errors import error_of
from tests.support.stub import stub

Make = Callable[..., Flask]
APP, EVIL = "https://app.example.com", "https://evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def ask(app: Flask, *, key: str = "", method: str = "POST", path: str = "/generate", **headers: str) -> Any:
    """Send what a page can send without asking first: a prompt as text."""
    sent = {"Content-Type": "text/plain"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    body = '{"prompt": "x"}' if method == "POST" else None
    return app.test_client().open(path, method=method, data=body, headers=sent)


@pytest.fixture
def with_keys(make_app: Make, tmp_path: Path) -> Callable[..., Flask]:
    path = write(tmp_path / "keys", entry("alice", "secret"))
    return lambda **changes: make_app(api_keys_file=str(path), **changes)


OWN_NAMES = [
    "localhost",
    "localhost:5000",
    "LOCALHOST:80",
    "sluice.localhost",
    "127.0.0.1:5000",
    "127.0.0.1:",
    "127.9.9.9",
    "[::1]:1",
]
OTHER_NAMES = [
    "evil.example",
    "evil.example:5000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "192.0.2.1",
    "0.0.0.0:5000",
    "[2001:db8::1]",
    "user@localhost",
    "localhost,evil.example",
    "localhost/",
    "localhost:x",
    "[::1",
    " ",
]


@pytest.mark.parametrize("host", OWN_NAMES)
def test_on_a_loopback_address_the_names_of_one_are_answered(make_app: Make, host: str) -> None:
    assert ask(make_app(), Host=host).status_code == 200


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
@pytest.mark.parametrize("host", OTHER_NAMES)
def test_a_name_that_was_made_to_resolve_to_a_loopback_address_is_refused(
    make_app: Make, stand_in: StandIn, host: str, listens_on: str
) -> None:
    app = make_app(host=listens_on)
    for method, path in [("POST", "/generate"), ("GET", "/"), ("GET", "/v1/models"), ("GET", "/nowhere")]:
        reply = ask(app, Host=host, Origin=f"http://{host}", method=method, path=path)
        assert (reply.status_code, error_of(reply)["code"]) == (403, "forbidden")
        assert "ALLOWED_HOSTS" in error_of(reply)["message"]
    assert not stand_in.chats()


def test_elsewhere_any_name_is_answered_until_names_are_listed(make_app: Make) -> None:
    everywhere = make_app(host="0.0.0.0")
    listed = make_app(host="0.0.0.0", allowed_hosts="llm.example.com, 192.0.2.1")
    for host in ("llm.example.com", "LLM.example.com:8080", "192.0.2.1:5000", "localhost:8080"):
        assert ask(everywhere, Host=host).status_code == ask(listed, Host=host).status_code == 200
    assert ask(everywhere, Host="other.example.com").status_code == 200
    assert ask(listed, Host="other.example.com").status_code == 403


def test_listed_names_are_answered_on_a_loopback_address_too(make_app: Make) -> None:
    app = make_app(allowed_hosts="llm.example.com")
    assert ask(app, Host="llm.example.com").status_code == ask(app, Host="localhost").status_code == 200
    assert ask(app, Host="evil.example").status_code == 403


def test_the_private_port_has_the_same_rule_on_a_loopback_address_only(make_app: Make) -> None:
    for private_host, status in [("127.0.0.1", 403), ("0.0.0.0", 200)]:
        app = make_app(private_host=private_host, allowed_hosts="llm.example.com")
        private = create_private_app(app.extensions["sluice"])
        assert ask(private, method="GET", path="/metrics", Host="evil.example").status_code == status
        assert ask(private, method="GET", path="/metrics", Host="127.0.0.1:9090").status_code == 200


FOREIGN = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": "file://"},
    {"Origin": "http://localhost:3000"},  # another server on the same machine
    {"Origin": "https://localhost"},  # the same name by another scheme has another port
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_site_is_refused_without_a_key(
    make_app: Make, with_keys: Make, stand_in: StandIn, headers: dict[str, str]
) -> None:
    host = {"Host": "localhost:80" if headers.get("Origin") == "https://localhost" else "localhost"}
    for app in (make_app(), make_app(allowed_origins=APP), with_keys(), with_keys(allowed_origins=APP)):
        for key in ("", "wrong"):
            reply = ask(app, key=key, **host, **headers)
            assert (reply.status_code, error_of(reply)["code"]) == (403, "forbidden")
            assert "ALLOWED_ORIGINS" in error_of(reply)["message"]
            assert "Access-Control-Allow-Origin" not in reply.headers
    assert not stand_in.chats()


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_with_a_valid_key_it_is_no_drive_by(with_keys: Make, headers: dict[str, str]) -> None:
    reply = ask(with_keys(), key="secret", **headers)
    assert reply.status_code == 200
    assert "Access-Control-Allow-Origin" not in reply.headers  # a browser keeps the answer from the page all the same


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:5000", "Host": "localhost:5000"},
        {"Origin": "http://LOCALHOST:80", "Host": "localhost"},
        {"Origin": "http://[::1]:5000", "Host": "[::1]:5000"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_the_servers_own_page_and_what_is_no_browser_are_answered(make_app: Make, headers: dict[str, str]) -> None:
    assert ask(make_app(), **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://llm.example.com", "Host": "llm.example.com"},  # TLS ends before us
        {"Origin": "https://llm.example.com", "Host": "llm.example.com:443"},
        {"Origin": "https://llm.example.com", "Host": "sluice.internal", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:8080", "Host": "localhost:8080"},  # docker run -p 8080:5000
        {"Origin": "http://192.0.2.7:8080", "Host": "192.0.2.7:8080"},
    ],
    ids=str,
)
def test_the_page_works_behind_a_load_balancer_and_a_published_port(make_app: Make, headers: dict[str, str]) -> None:
    assert ask(make_app(host="0.0.0.0"), **headers).status_code == 200


def test_a_link_on_another_site_opens_the_page(make_app: Make) -> None:
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(make_app(), method="GET", path="/", **headers).status_code == 200


def test_a_listed_origin_asks_and_reads_also_errors_and_streams(make_app: Make) -> None:
    app = make_app(allowed_origins=f"{APP}, http://localhost:3000")
    for origin in (APP, "http://localhost:3000"):
        for path, status in [("/generate", 200), ("/v1/embeddings", 400), ("/nowhere", 404), ("/", 405)]:
            reply = ask(app, path=path, Origin=origin, Sec_Fetch_Site="cross-site")
            assert reply.status_code == status
            assert reply.headers["Access-Control-Allow-Origin"] == origin
            assert reply.headers["Access-Control-Expose-Headers"] == "Retry-After, X-Request-Id, Request-Id"
            assert reply.headers["Vary"] == "Origin"
    body = {"prompt": "x", "stream": True}
    streamed = app.test_client().post("/generate", json=body, headers={"Origin": APP}, buffered=True)
    assert (streamed.headers["Access-Control-Allow-Origin"], '"done": true' in streamed.text) == (APP, True)


def test_a_listed_origins_preflight_is_answered_and_another_ones_is_not(make_app: Make, with_keys: Make) -> None:
    for app in (make_app(allowed_origins=APP), with_keys(allowed_origins=APP)):
        reply = ask(app, method="OPTIONS", Origin=APP, **PREFLIGHT)
        assert (reply.status_code, reply.data) == (204, b"")
        assert reply.headers["Access-Control-Allow-Origin"] == APP
        assert reply.headers["Access-Control-Allow-Methods"] == "GET, POST"
        allowed = reply.headers["Access-Control-Allow-Headers"].split(", ")
        assert {"Authorization", "Content-Type", "X-Priority", "X-Request-Id"} <= set(allowed)
        assert int(reply.headers["Access-Control-Max-Age"]) > 0
        refused = ask(app, method="OPTIONS", Origin=EVIL, **PREFLIGHT)
        assert refused.status_code == 403
        assert not [name for name in dict(refused.headers) if name.startswith("Access-Control")]


def test_a_listed_origin_still_needs_a_key_where_keys_are_on_and_can_read_that(with_keys: Make) -> None:
    app = with_keys(allowed_origins=APP)
    reply = ask(app, Origin=APP)
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (401, APP)
    assert ask(app, key="secret", Origin=APP).status_code == 200


def test_with_keys_every_origin_may_be_allowed(with_keys: Make) -> None:
    app = with_keys(allowed_origins="*")
    assert ask(app, method="OPTIONS", Origin=EVIL, **PREFLIGHT).status_code == 204
    assert ask(app, Origin=EVIL).status_code == 401
    reply = ask(app, key="secret", Origin=EVIL)
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (200, "*")


def test_no_answer_has_cors_headers_by_itself(make_app: Make) -> None:
    reply = ask(make_app(), Origin="http://localhost")
    assert not [name for name in dict(reply.headers) if name.startswith("Access-Control")]
    assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"allowed_origins": "*"}, "ALLOWED_ORIGINS=* lets every web page in: it needs API_KEYS_FILE"),
        ({"allowed_origins": "app.example.com"}, "ALLOWED_ORIGINS: 'app.example.com' is not an origin such as"),
        ({"allowed_origins": "https://app.example.com/"}, "is not an origin"),
        ({"allowed_origins": f"{APP},null"}, "'null' is not an origin"),
        ({"allowed_hosts": "https://llm.example.com"}, "ALLOWED_HOSTS: 'https://llm.example.com' is not a name"),
        ({"allowed_hosts": "llm.example.com:5000"}, "is not a name such as llm.example.com, without a port"),
        ({"allowed_hosts": "*"}, "is not a name"),
    ],
)
def test_a_bad_name_or_origin_ends_the_start(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingError) as error:
        Settings(**settings)  # type: ignore[arg-type]
    assert complaint in str(error.value)


@pytest.fixture
def site() -> Iterator[str]:
    """Serve an empty page of another site than the gateway's."""
    with stub(lambda _: (200, {"Content-Type": "text/html"}, b"<title>another site</title>")) as server:
        yield server.url.replace("127.0.0.1", "localhost")


DRIVE_BY = """async url => {
  const body = '{"prompt": "x"}';
  await fetch(url, {method: "POST", mode: "no-cors", body});
  const sandbox = document.createElement("iframe");  // its origin is null
  sandbox.sandbox = "allow-scripts allow-forms";
  sandbox.srcdoc = `<form method=post enctype=text/plain action=${url}><input name='{"prompt": "x", "a":"' value='"}'>
    </form><script>document.forms[0].submit()</script>`;
  const sent = new Promise(resolve => { sandbox.onload = resolve; });
  document.body.append(sandbox);
  await sent;
  return await fetch(url, {method: "POST", body}).then(() => "read", () => "kept from the page");
}"""
CLIENT = """async ([url, key]) => {
  const headers = {"Authorization": `Bearer ${key}`, "Content-Type": "application/json", "X-Stainless-Lang": "js"};
  const reply = await fetch(url, {method: "POST", headers, body: '{"prompt": "x", "stream": true}'});
  return [reply.status, reply.headers.get("X-Request-Id").length, await reply.text()];
}"""


def test_in_a_real_browser_another_sites_page_gets_nothing_generated(
    make_server: Callable[..., Served], stand_in: StandIn, browser: Browser, site: str
) -> None:
    served = make_server()
    page = browser.new_page()
    page.goto(site)
    assert page.evaluate(DRIVE_BY, f"{served.url}/generate") == "kept from the page"
    assert not stand_in.chats()
    eventually(lambda: sum(line.get("error") == "forbidden" for line in served.lines()) == 3)
    page.goto(served.url)  # and the server's own page gets its answer
    assert page.evaluate("fetch('/generate', {method: 'POST', body: '{\"prompt\": \"x\"}'}).then(r => r.status)") == 200
    page.close()


def test_in_a_real_browser_a_listed_origin_reads_streams_and_errors(
    make_server: Callable[..., Served], browser: Browser, site: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "keys", entry("alice", "secret"))
    served = make_server(allowed_origins=site, api_keys_file=path)
    page = browser.new_page()
    page.goto(site)
    status, id_length, text = page.evaluate(CLIENT, [f"{served.url}/generate", "secret"])
    assert (status, id_length, '"done": true' in text) == (200, 32, True)
    status, id_length, text = page.evaluate(CLIENT, [f"{served.url}/generate", "wrong"])
    assert (status, id_length, "not known" in text) == (401, 32, True)
    page.close()


def test_browsers_are_told_to_use_https_only_where_the_operator_says_for_how_long(make_app: Make) -> None:
    for path in ("/", "/v1/models", "/missing"):
        assert "Strict-Transport-Security" not in make_app().test_client().get(path).headers
        reply = make_app(hsts_seconds=600).test_client().get(path)
        assert reply.headers["Strict-Transport-Security"] == "max-age=600"
