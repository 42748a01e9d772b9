"""Anthropic's messages as they reach Ollama."""

import sys
import tracemalloc
from typing import Any

from flask.testing import FlaskClient

from service.dialects.anthropic_turns import UserMessage, turns_of
from testbed.pictures import taken_image
from testbed.stand_in import StandIn
from tests.support.anthropic_requests import CACHED, CALL, HI, IMAGE, TOOL, assistant, post, result, text, use, user


def test_a_conversation_with_tools_becomes_turns_in_order(client: FlaskClient, stand_in: StandIn) -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    reply = post(
        client,
        tools=[TOOL],
        messages=[
            user(IMAGE, text("What is it?", **CACHED)),
            assistant(thinking, text("Let me see.", citations=[]), use("toolu_1", **CACHED), use("toolu_2")),
            user(
                text("And this?"),
                result("toolu_1", content="2", **CACHED),
                result("toolu_2", content=[text("a "), text("picture"), IMAGE], is_error=True),
            ),
            assistant({"type": "redacted_thinking", "data": "x"}, text("Two.")),
            {"role": "system", "content": "Hurry."},
            HI,
        ],
    )
    assert reply.status_code == 200
    [chat] = stand_in.chats()
    sent = chat["messages"]
    assert taken_image(sent[0]).size == taken_image(sent[3]).size == (32, 32)
    arguments = CALL["function"]
    assert sent == [
        {"role": "user", "content": "What is it?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "toolu_1", "function": arguments}, {"id": "toolu_2", "function": arguments}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "toolu_1", "tool_name": "add"},
        {"role": "tool", "content": "Error: a picture", "tool_call_id": "toolu_2", "tool_name": "add"},
        {"role": "user", "content": "And this?"},
        {"role": "assistant", "content": "Two."},
        {"role": "system", "content": "Hurry."},
        HI,
    ]


def test_messages_of_one_role_in_a_row_are_one_turn(client: FlaskClient, stand_in: StandIn) -> None:
    messages = [HI, user(text("How"), text(" are you?")), {"role": "assistant", "content": "Well"}, assistant(use())]
    assert post(client, messages=[*messages, user(result(content="2")), HI]).status_code == 200
    [chat] = stand_in.chats()
    assert [(turn["role"], turn["content"]) for turn in chat["messages"]] == [
        ("user", "Hi\n\nHow are you?"),
        ("assistant", "Well"),
        ("tool", "2"),
        ("user", "Hi"),
    ]


def test_what_the_system_says_until_the_user_speaks_is_left_out_after_that(
    client: FlaskClient, stand_in: StandIn
) -> None:
    brief: Any = {"role": "system", "content": [text("Brief.")], "clear_at": "next_user_message"}
    said = {"role": "assistant", "content": "Hello"}
    post(client, messages=[HI, brief])
    post(client, messages=[HI, brief, said, HI])
    first, second = (chat["messages"] for chat in stand_in.chats())
    assert first == [HI, {"role": "system", "content": "Brief."}]
    assert second == [HI, said, HI]


def test_long_neighbours_are_not_copied_before_their_sizes_are_checked() -> None:
    text = "😀" + "x" * 8000
    messages = [UserMessage.model_validate({"role": "user", "content": text}) for _ in range(100)]
    tracemalloc.start()
    [turn] = turns_of(messages)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * sys.getsizeof(text)
    assert turn.for_ollama()["content"] == "\n\n".join([text] * 100)


def test_a_document_of_plain_text_stands_before_the_question(client: FlaskClient, stand_in: StandIn) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Sluices hold water."}
    document = {"type": "document", "source": source, "title": "Sluices", "citations": {"enabled": False}, **CACHED}
    assert post(client, messages=[user(document, text("What do they hold?"))]).status_code == 200
    [chat] = stand_in.chats()
    assert chat["messages"][0]["content"] == "Sluices\n\nSluices hold water.\n\nWhat do they hold?"
