"""Anthropic's own client against the gateway, as its documentation has it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from pydantic import BaseModel

from testbed.gateway import Served
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually
from tests.support.anthropic_requests import CALL, IMAGE, TOOL
from tests.support.api_keys import entry, write

HI: Any = [{"role": "user", "content": "Hi"}]
ASKED: Any = {"model": MODEL, "max_tokens": 64, "messages": HI}
Connect = Callable[..., anthropic.Anthropic]


class City(BaseModel):
    """What is asked for."""

    name: str


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def client(served: Served, **options: Any) -> anthropic.Anthropic:
            fixed = {"base_url": served.url, "api_key": "none", "max_retries": 0}
            return stack.enter_context(anthropic.Anthropic(**{**fixed, **options}))

        yield client


@pytest.fixture
def stand_in(engine: StandIn) -> StandIn:
    engine.renew()
    return engine


@pytest.fixture
def client(shared: Served, stand_in: StandIn, connect: Connect) -> anthropic.Anthropic:
    return connect(shared)


def test_the_official_client_works_unchanged(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    message = client.messages.create(**ASKED, system="Be brief.")
    [block] = message.content
    assert (block.type, block.text, message.stop_reason, message.model) == ("text", "Hello, world", "end_turn", MODEL)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 3)
    assert message._request_id
    with client.messages.stream(**ASKED) as stream:
        assert list(stream.text_stream) == stand_in.tokens
        final = stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == ("Hello, world", "end_turn")
    assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 3)
    assert [event.type for event in client.messages.create(**ASKED, stream=True)] == [
        *("message_start", "content_block_start", *["content_block_delta"] * 3, "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert client.messages.count_tokens(model=MODEL, messages=HI).input_tokens == 7
    assert [model.id for model in client.models.list()] == [MODEL]


def test_tools_are_called_and_their_results_go_back(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    stand_in.tokens, stand_in.message = [""], {"tool_calls": [CALL]}
    message = client.messages.create(**ASKED, tools=[TOOL])
    with client.messages.stream(**ASKED, tools=[TOOL]) as stream:
        streamed = stream.get_final_message()
    for each in (message, streamed):
        [use] = each.content
        assert (each.stop_reason, use.type, use.name, use.input) == ("tool_use", "tool_use", "add", {"a": 1})
    assert message.content[0].id != streamed.content[0].id
    stand_in.tokens, stand_in.message = ["2"], {}
    result = {"type": "tool_result", "tool_use_id": message.content[0].id, "content": "2"}
    told: Any = [*HI, message.to_param(), {"role": "user", "content": [result]}]
    assert client.messages.create(**{**ASKED, "messages": told}, tools=[TOOL]).content[0].text == "2"
    dumped: Any = [*HI, message.model_dump(), {"role": "user", "content": [result]}]
    assert client.messages.create(**{**ASKED, "messages": dumped}, tools=[TOOL]).content[0].text == "2"
    one, other = (chat["messages"] for chat in stand_in.chats()[-2:])
    assert one == other
    assert one[2] == {"role": "tool", "content": "2", "tool_call_id": message.content[0].id, "tool_name": "add"}


def test_thoughts_pictures_and_schemas_work_as_documented(
    make_server: Callable[..., Served], connect: Connect, stand_in: StandIn
) -> None:
    stand_in.capabilities.append("thinking")
    stand_in.tokens, stand_in.thoughts = ['{"name": ', '"Paris"}'], ["Hm."]
    client = connect(make_server())
    see: Any = [{"role": "user", "content": [IMAGE, {"type": "text", "text": "Which city?"}]}]
    parsed = client.messages.parse(**{**ASKED, "messages": see}, output_format=City)
    assert parsed.parsed_output == City(name="Paris")
    assert stand_in.chats()[-1]["format"]["properties"] == {"name": {"type": "string"}}
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(**ASKED, thinking=thinking) as stream:
        kinds = [event.type for event in stream if event.type in ("thinking", "signature", "text")]
        content: Any = stream.get_final_message().content
    assert kinds == ["thinking", "signature", "text", "text"]
    assert [block.type for block in content] == ["thinking", "text"]
    assert (content[0].thinking, content[0].signature, content[1].text) == ("Hm.", "", '{"name": "Paris"}')


def test_the_beta_client_works_too(client: anthropic.Anthropic) -> None:
    edits: Any = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    betas: Any = ["context-management-2025-06-27", "interleaved-thinking-2025-05-14"]
    message = client.beta.messages.create(**ASKED, betas=betas, context_management=edits)
    assert message.content[0].text == "Hello, world"
    assert client.beta.messages.count_tokens(model=MODEL, messages=HI, betas=betas).input_tokens == 7


def test_errors_are_those_that_the_client_knows(client: anthropic.Anthropic, stand_in: StandIn) -> None:
    with pytest.raises(anthropic.NotFoundError, match="serves stand-in only") as missing:
        client.messages.create(**{**ASKED, "model": "claude-opus-4"})
    assert (missing.value.type, bool(missing.value.request_id)) == ("not_found_error", True)
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\]: must be of type custom"):
        client.messages.create(**ASKED, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    stand_in.error_at = 1
    with pytest.raises(anthropic.APIStatusError, match="the model server failed"):
        list(client.messages.create(**ASKED, stream=True))


def test_its_own_retry_comes_back_when_it_is_told_to(
    make_server: Callable[..., Served], connect: Connect, stand_in: StandIn
) -> None:
    served = make_server(slots=1, max_queue=0, queue_timeout=1)  # what Retry-After says
    stand_in.hold_at = 0
    answers: list[tuple[float, httpx2.Response]] = []
    hooks: Any = {"response": [lambda response: answers.append((time.monotonic(), response))]}
    client = connect(served, max_retries=2, http_client=anthropic.DefaultHttpxClient(event_hooks=hooks))
    with ThreadPoolExecutor(1) as pool:
        served.connect("/generate", {"prompt": "x"})
        eventually(lambda: stand_in.running == 1)
        waiting = pool.submit(lambda: client.messages.create(**ASKED))
        eventually(lambda: answers)
        stand_in.release()
        assert waiting.result().content[0].text == "Hello, world"
    (refused, first), (_, second) = answers
    assert (first.status_code, second.status_code) == (503, 200)
    assert answers[1][0] - refused >= float(first.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("header", ["api_key", "auth_token"])
def test_the_key_of_the_client_is_the_gateways(
    make_server: Callable[..., Served], connect: Connect, tmp_path: Path, header: str
) -> None:
    served = make_server(api_keys_file=write(tmp_path / "keys", entry("alice", "secret")))
    keys = {"api_key": None, header: "secret"}
    assert connect(served, **keys).messages.create(**ASKED).stop_reason == "end_turn"
    with pytest.raises(anthropic.AuthenticationError):
        connect(served, **{**keys, header: "other"}).messages.create(**ASKED)
