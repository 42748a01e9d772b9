"""What OpenAI's client makes of errors: the class, the code and the field at fault."""

from collections.abc import Iterator
from typing import NoReturn

import httpx2
import openai
import pytest
from flask import Flask

from service.dialects.openai_chat import OPENAI_SSE, broken
from service.error_handlers import answer_errors_in_json
from service.errors import (
    EngineFailed,
    Forbidden,
    InvalidRequest,
    KillsEngine,
    ModelNotServed,
    PromptTooLong,
    QuotaExceeded,
    Saturated,
    ServiceError,
    Unauthorized,
)


@pytest.mark.parametrize(
    ("raised", "kind", "code", "param"),
    [
        (InvalidRequest("tools[0].type: is another"), openai.BadRequestError, "invalid_request", "tools[0].type"),
        (InvalidRequest("the model can't: it sleeps"), openai.BadRequestError, "invalid_request", None),
        (PromptTooLong("messages: 9 characters"), openai.BadRequestError, "context_length_exceeded", "messages"),
        (Unauthorized("no key"), openai.AuthenticationError, "invalid_api_key", None),
        (Forbidden("X-Priority: batch only"), openai.PermissionDeniedError, "forbidden", "X-Priority"),
        (ModelNotServed("model: another"), openai.NotFoundError, "model_not_found", "model"),
        (KillsEngine("this request kills"), openai.UnprocessableEntityError, "kills_engine", None),
        (QuotaExceeded("too many", retry_after=1), openai.RateLimitError, "rate_limit_exceeded", None),
        (EngineFailed("it failed", retry_after=1), openai.InternalServerError, "engine_failed", None),
        (Saturated("full", retry_after=1), openai.InternalServerError, "saturated", None),
    ],
)
def test_the_official_client_raises_what_its_users_catch(
    raised: ServiceError, kind: type[openai.APIStatusError], code: str, param: str | None
) -> None:
    app = Flask("errors")
    answer_errors_in_json(app)

    @app.post("/v1/completions")
    def fail() -> NoReturn:
        raise raised

    with (
        httpx2.Client(transport=httpx2.WSGITransport(app)) as transport,
        openai.OpenAI(base_url="http://sluice/v1", api_key="x", max_retries=0, http_client=transport) as client,
        pytest.raises(openai.APIStatusError, match=raised.message.partition("[")[0]) as error,
    ):
        client.completions.create(model="x", prompt="Hi")
    assert type(error.value) is kind
    assert (error.value.code, error.value.param) == (code, param)


def test_a_stream_that_breaks_off_is_raised_with_its_code() -> None:
    app = Flask("errors")

    @app.post("/v1/completions")
    def fail() -> Iterator[str]:
        yield from map(OPENAI_SSE.write, broken(EngineFailed("it broke off")))

    with (
        httpx2.Client(transport=httpx2.WSGITransport(app)) as transport,
        openai.OpenAI(base_url="http://sluice/v1", api_key="x", max_retries=0, http_client=transport) as client,
        pytest.raises(openai.APIError, match="it broke off") as error,
    ):
        list(client.completions.create(model="x", prompt="Hi", stream=True))
    assert (error.value.code, error.value.type) == ("engine_failed", "server_error")
