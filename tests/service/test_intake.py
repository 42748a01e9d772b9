import time
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidHTTPVersion, LimitRequestHeaders, LimitRequestLine, ParseException

from service.errors import BodyTooLarge, InvalidRequest
from service.intake import MAX_CHUNKS, MAX_HEAD, Incoming

HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def incoming(max_body: int = 1000) -> Incoming:
    return Incoming(Config(), ("127.0.0.1", 1), max_body)


def byte_by_byte(receiver: Incoming, data: bytes) -> Iterator[Any]:
    for position in range(len(data)):
        yield receiver.feed(data[position : position + 1])


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"\r\nGET / HTTP/1.0\r\n\r\n", b""),
        (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (HEAD + b"Content-Length: 0\r\n\r\n", b""),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (CHUNKED + b"0\r\n\r\n", b""),
        (CHUNKED + b"00A ; name=value\r\n\r\nhello\r\n\n\r\n1;x\r\n!\r\n0\r\nTrailer: x\r\n\r\n", b"\r\nhello\r\n\n!"),
    ],
)
def test_a_request_is_returned_once_it_is_whole_however_it_comes(sent: bytes, body: bytes) -> None:
    at_once = incoming().feed(sent)
    *before, last = byte_by_byte(incoming(), sent)
    assert before == [None] * (len(sent) - 1)
    for request in (at_once, last):
        assert request.body.read() == body
        headers = dict(request.headers)
        assert headers["CONTENT-LENGTH"] == str(len(body))
        assert "TRANSFER-ENCODING" not in headers


def test_no_header_speaks_for_the_peer_or_the_path() -> None:
    # Where gunicorn trusts a peer, these set the scheme and the path; by its own default it trusts 127.0.0.1.
    said = b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Protocol: ssl\r\n"
    request = incoming().feed(b"GET /a HTTP/1.1\r\nHost: x\r\n" + said + b"Script-Name: /admin\r\n\r\n")
    assert (request.scheme, request.path) == ("http", "/a")


def test_what_follows_a_request_belongs_to_the_next_one() -> None:
    receiver = incoming()
    first = HEAD + b"Content-Length: 1\r\n\r\n1"
    assert receiver.feed(first + CHUNKED + b"1\r\n2\r\n0\r\n\r\nGET /").body.read() == b"1"
    assert receiver.feed(b"").body.read() == b"2"
    assert receiver.feed(b"") is None
    assert receiver.size == len(b"GET /")
    assert receiver.feed(b"page HTTP/1.0\r\n\r\n").path == "/page"


@pytest.mark.parametrize(
    "path",
    [
        *(b"/", b"/generate", b"/v1/models", b"/v1/models/hf.co/a:q4_k", b"/a/?x=%20&y=//"),
        *(b"/v1/models/hf.co%2Fa%2fb:q4_k", b"/v1/models/a%2Fb?x=%"),
    ],
)
def test_a_path_that_is_written_plainly_gets_in(path: bytes) -> None:
    assert incoming().feed(b"GET " + path + b" HTTP/1.0\r\n\r\n").uri == path.decode()


@pytest.mark.parametrize(
    "path",
    [
        b"/%67enerate",
        b"//generate",
        b"/v1//models",
        b"/v1/chat%2fcompletions",
        b"/v1/models%2Fa",
        b"/v1/models/%2Fa",
        b"/v1/models/a%2F",
        b"/v1/models/a%2F/b",
        b"/v1/models/a%2F..%2Fgenerate",
        b"/v1/models/..%2Fgenerate",
        b"/v1/models/a%2F.",
        b"/v1/models/a%2Fb%20c",
        b"/engine%2Fchat",
        b"/./generate",
        b"/v1/../generate",
        b"/v1/..",
        b"/generate#x",
        b"/a\\b",
        b"http://x/generate",
        b"*",
    ],
)
def test_a_path_that_others_could_read_differently_is_refused(path: bytes) -> None:
    with pytest.raises((InvalidRequest, ParseException)):
        incoming().feed(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")


def test_a_path_of_any_kind_is_judged_at_once() -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest):
        incoming().feed(b"GET /" + b"a" * 2000 + b"/b" * 900 + b"%20 HTTP/1.1\r\n\r\n")
    assert time.process_time() - started < 1  # a pattern that backtracks would take years


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ParseException),
        (b"GET / HTTP/1.7\r\n\r\n", InvalidHTTPVersion),
        (b"GET / HTTP/1.1\nHost: x\n\n", ParseException),
        (b"GET / HTTP/1.1\r\nX: y\r\n\r\n", InvalidRequest),
        (b"GET /" + b"x" * MAX_HEAD, LimitRequestLine),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_HEAD, LimitRequestHeaders),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ParseException),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", ParseException),
        (HEAD + b"Content-Length: -5\r\n\r\n", ParseException),
        (HEAD + b"Transfer-Encoding: gzip, chunked, chunked\r\n\r\n", ParseException),
        (HEAD + b"Content-Length: 1001\r\n\r\n", BodyTooLarge),
        (CHUNKED + b"3e9\r\n", BodyTooLarge),
        (CHUNKED + b"2\r\nabc\r\n", InvalidRequest),
        (CHUNKED + b"2\r\nab\n\n", InvalidRequest),
        (CHUNKED + b"-1\r\n", InvalidRequest),
        (CHUNKED + b"\r\n", InvalidRequest),
        (CHUNKED + b"1" * 600, InvalidRequest),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 20, InvalidRequest),
    ],
)
def test_what_is_too_large_or_can_be_read_in_two_ways_is_refused(sent: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        incoming().feed(sent)
    receiver = incoming()
    with pytest.raises(error):
        list(byte_by_byte(receiver, sent))


def test_a_body_in_too_many_chunks_is_refused_before_it_costs_much() -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest, match=f"more than {MAX_CHUNKS} chunks"):
        incoming(max_body=1 << 23).feed(CHUNKED + b"1\r\nx\r\n" * (1 << 20))
    assert time.process_time() - started < 1


def test_whoever_expects_a_100_is_told_once() -> None:
    receiver = incoming()
    assert receiver.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n") is None
    assert [receiver.wants_continue() for _ in range(2)] == [True, False]
    assert receiver.feed(b"x")._expected_100_continue is False
