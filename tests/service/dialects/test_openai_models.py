from collections.abc import Callable
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from testbed.gateway import Served
from tests.support.errors import error_of

NAME = "hf.co/unsloth/Qwen3-GGUF:Q4_K_M"
ANTHROPIC = {"anthropic-version": "2023-06-01"}


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(model=NAME).test_client()


@pytest.mark.parametrize("asked", [NAME, NAME.lower(), NAME.upper()])
def test_a_model_is_found_as_ollama_finds_it(client: FlaskClient, asked: str) -> None:
    model = client.get(f"/v1/models/{asked}").json
    assert model == {"id": NAME, "object": "model", "created": 0, "owned_by": "sluice"}
    assert client.get("/v1/models").json == {"object": "list", "data": [model]}


@pytest.mark.parametrize("asked", ["gpt-5", "hf.co/unsloth/Qwen3-GGUF", f"{NAME}/x"])
def test_another_model_is_not_found(client: FlaskClient, asked: str) -> None:
    reply = client.get(f"/v1/models/{asked}")
    assert (reply.status_code, error_of(reply)["code"], error_of(reply)["param"]) == (404, "model_not_found", "model")


def test_anthropics_clients_get_their_form(client: FlaskClient) -> None:
    model = client.get(f"/v1/models/{NAME}", headers=ANTHROPIC).json
    date = "1970-01-01T00:00:00Z"
    assert model == {"type": "model", "id": NAME, "display_name": NAME, "created_at": date, "lifecycle": "active"}
    listed = client.get("/v1/models", headers=ANTHROPIC).json
    assert listed == {"data": [model], "has_more": False, "first_id": NAME, "last_id": NAME}
    refused: Any = client.get("/v1/models/gpt-5", headers=ANTHROPIC).json
    assert (refused["type"], refused["error"]["type"]) == ("error", "not_found_error")


def test_the_official_client_asks_for_names_with_slashes(make_server: Callable[..., Served]) -> None:
    served = make_server()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        assert client.models.retrieve("registry.ollama.ai/library/stand-in").id == "stand-in"
        with pytest.raises(openai.NotFoundError, match="this server serves stand-in only") as error:
            client.models.retrieve(NAME)
    assert error.value.code == "model_not_found"
