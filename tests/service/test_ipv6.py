from pathlib import Path

import pytest

from launcher.__main__ import _announce
from launcher.load_model import Model
from service.settings import Settings
from testbed.fetching import fetch
from testbed.gateway import serve
from testbed.stand_in import StandIn


@pytest.mark.usefixtures("programs")
def test_the_gateway_listens_on_every_address_of_both_kinds(stand_in: StandIn, tmp_path: Path) -> None:
    with serve(stand_in.url, tmp_path / "log", host="::", private_host="::") as served:
        for host in ("[::1]", "127.0.0.1"):
            assert fetch(f"http://{host}:{served.port}/generate", {"prompt": "Hi"}).status == 200
            assert fetch(f"http://{host}:{served.private_port}/readyz").status == 200


@pytest.mark.usefixtures("programs")
def test_the_gateway_listens_on_one_address_and_reaches_ollama_there(tmp_path: Path) -> None:
    ollama = StandIn(host="::1").start()
    try:
        address = ollama.url.removeprefix("http://")
        assert address.startswith("[::1]:")
        with serve(address, tmp_path / "log", host="::1") as served:
            assert fetch(f"http://[::1]:{served.port}/generate", {"prompt": "Hi"}).status == 200
            with pytest.raises(OSError, match="refused"):
                fetch(f"{served.url}/generate", {"prompt": "Hi"})
            assert {headers["host"] for headers in ollama.headers} == {address}
            refused = fetch(f"http://[::1]:{served.port}/generate", {"prompt": "Hi"}, {"Host": "evil.example"})
            assert refused.status == 403
    finally:
        ollama.stop()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:5000"),
        ("::", "http://localhost:5000"),
        ("::1", "http://[::1]:5000"),
        ("2001:db8::1", "http://[2001:db8::1]:5000"),
    ],
)
def test_the_launcher_prints_an_address_that_can_be_opened(
    host: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _announce(Settings(host=host), [Model({"model": "moondream"}, ["completion"], {})])
    printed = capsys.readouterr().out
    assert f" answers at {url} " in printed
    assert f"curl {url}/generate " in printed
