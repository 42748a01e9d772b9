import http.client
import json
import socket
from collections.abc import Callable
from typing import NoReturn

import httpx2
import openai
import pytest
from flask import Flask

from service.dialects.errors import form_of
from service.error_handlers import answer_errors_in_json
from service.errors import ServiceError
from service.private_port import NotReady
from testbed.gateway import Served
from testbed.stand_in import StandIn
from testbed.waiting import eventually

KINDS: list[type[ServiceError]] = [*ServiceError.__subclasses__(), NotReady]


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.code)
def test_openais_client_shows_the_sentence_of_every_error_and_repeats_no_mistake(kind: type[ServiceError]) -> None:
    app, asked = Flask("errors"), list[str]()
    answer_errors_in_json(app)
    # As many as it makes unless told otherwise; a quota, and an upload that was too slow, may fare better later.
    repeats = 2 if kind.status < 500 and kind.status not in (408, 429) else 0

    @app.post("/v1/chat/completions")
    def fail() -> NoReturn:
        asked.append("x")
        raise kind("field: what is wrong; at most 5 are allowed")

    with (
        httpx2.Client(transport=httpx2.WSGITransport(app)) as transport,
        openai.OpenAI(base_url="http://sluice/v1", api_key="x", max_retries=repeats, http_client=transport) as client,
        pytest.raises(openai.APIStatusError) as error,
    ):
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "Hi"}])
    assert (error.value.status_code, len(asked)) == (form_of("/v1/chat/completions").status(kind("")), 1)
    assert "field: what is wrong; at most 5 are allowed" in str(error.value)


def test_a_client_that_closes_its_sending_half_is_told_why_in_json(
    make_server: Callable[..., Served], stand_in: StandIn
) -> None:
    served = make_server()
    stand_in.hold_at = 0
    sock = served.connect("/generate", {"prompt": "x"})
    eventually(lambda: stand_in.running == 1)
    sock.shutdown(socket.SHUT_WR)
    reply = http.client.HTTPResponse(sock)
    reply.begin()
    assert (reply.status, reply.headers["Content-Type"]) == (499, "application/json")
    assert json.loads(reply.read())["error"]["code"] == "client_gone"
    eventually(lambda: stand_in.cancelled == 1)


def test_one_that_does_so_in_mid_stream_gets_no_answer_that_looks_complete(
    make_server: Callable[..., Served], stand_in: StandIn
) -> None:
    served = make_server()
    stand_in.hold_at = 2
    sock = served.connect("/generate", {"prompt": "x", "stream": True})
    eventually(lambda: stand_in.running == 1)
    reply = http.client.HTTPResponse(sock)
    reply.begin()
    sock.shutdown(socket.SHUT_WR)
    assert json.loads(reply.read().splitlines()[-1])["error"]["code"] == "client_gone"
