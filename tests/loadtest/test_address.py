"""Addresses as people and their clients write them."""

import argparse
from base64 import b64decode

import pytest

from loadtest.address import Address, read_address


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://localhost:5000/", "http://localhost:5000"),
        ("http://localhost:5000/v1", "http://localhost:5000"),
        ("http://localhost:5000/v1/", "http://localhost:5000"),
        ("http://localhost:5000/v1/chat/completions", "http://localhost:5000"),
        ("https://example.com/llm/v1", "https://example.com/llm"),
        ("https://example.com/v1beta", "https://example.com/v1beta"),
        ("http://[::1]:5000/v1", "http://[::1]:5000"),
    ],
)
def test_a_path_as_openais_clients_need_it_is_left_out(text: str, url: str) -> None:
    assert read_address(text) == Address(url)


@pytest.mark.parametrize(
    ("text", "user_and_password"),
    [
        ("https://ada:secret@example.com/v1", "ada:secret"),
        ("https://ada:p%40ss%3A%2F@example.com", "ada:p@ss:/"),
        ("https://ada@example.com", "ada:"),
    ],
)
def test_credentials_become_a_header_and_are_not_shown(text: str, user_and_password: str) -> None:
    address = read_address(text)
    assert address.url == "https://example.com"
    assert b64decode(address.headers()["Authorization"].removeprefix("Basic ")).decode() == user_and_password
    assert "ada" not in repr(address)
    assert read_address(address.with_credentials) == address


def test_a_key_becomes_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    address = read_address("http://localhost:5000")
    monkeypatch.delenv("API_KEY", raising=False)
    assert address.headers() == {}
    monkeypatch.setenv("API_KEY", "secret")
    assert address.headers() == {"Authorization": "Bearer secret"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:5000",
        "ada:secret@localhost:5000",
        "ftp://ada:secret@example.com",
        "http://",
        "http://localhost:99999",
        "http://localhost:0",
        "http://[::1",
        "http://ada:secret@example.com?model=x",
        "http://ada:se/cret@example.com",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r" is not an address such as http://localhost:5000$") as said:
        read_address(text)
    assert "cret" not in str(said.value)
