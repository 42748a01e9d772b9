"""What the page says and offers when a request is refused, an answer breaks off, or a conversation is too long."""

import json
import re

import pytest
from flask import Response
from playwright.sync_api import expect

from tests.support.page import (
    Gateway,
    Open,
    Stream,
    answered,
    ask,
    button,
    converse,
    expect_state,
    hand_over,
    message,
    png,
    refusal,
)


def test_error_in_the_stream_is_shown_under_what_came_before(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    stream.send("The answer is")
    stream.put({"error": {"code": "engine_failed", "message": "the model broke off.", "hint": "ask again."}})
    stream.close()
    turn = ask(page, "?")
    expect(turn.get_by_role("alert")).to_have_text(re.compile(r"The model broke off\.\s*Ask again\."))
    expect(turn.locator(".md")).to_have_text("The answer is")
    expect(turn.locator(".id")).to_have_text("Request request-1")
    expect(turn.locator(".state")).to_have_text("Broken off")
    gateway.answers.put(answered("The answer is 42."))
    button(turn, "Try again").click()
    expect_state(turn, "done")
    expect(turn.locator(".md")).to_have_text("The answer is 42.")
    expect(turn.locator(".fault")).to_be_hidden()


@pytest.mark.parametrize("how", ["without its end", "cut"])
def test_stream_that_breaks_off_is_a_fault(open_page: Open, how: str) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="ERR_INCOMPLETE_CHUNKED_ENCODING")
    gateway.answers.put(stream := Stream())
    stream.send("Half an")
    turn = ask(page, "?")
    expect(turn.locator(".md")).to_have_text("Half an")
    if how == "cut":
        stream.cut()
    else:
        stream.close()
    expect(turn.locator(".fault")).to_contain_text("The answer broke off.")
    expect(turn.locator(".md")).to_have_text("Half an")
    converse(page, gateway, ("Go on", "answer"))
    assert gateway.messages == [("user", "?"), ("assistant", "Half an"), ("user", "Go on")]
    expect(button(turn, "Try again")).to_be_hidden()  # the conversation has gone on


@pytest.mark.parametrize(("status", "code"), [(503, "saturated"), (429, "quota_exceeded")])
def test_refusal_counts_down_and_then_tries_again(open_page: Open, status: int, code: str) -> None:
    gateway = Gateway()
    page = open_page(gateway, clock=True, failures=f"status of {status}")
    gateway.answers.put(refusal(status, code, "Every slot is busy.", "Come back later.", Retry_After="7"))
    turn = ask(page, "Hello")
    expect(turn.locator(".fault")).to_have_text(
        re.compile(r"Every slot is busy\.\s*Come back later\.\s*Request request-2")
    )
    again, countdown = button(turn, "Try again"), turn.locator(".countdown")
    expect(again).to_be_disabled()
    expect(countdown).to_have_text(re.compile("The server asks to wait: [67] s"))
    page.clock.fast_forward(4_000)
    expect(countdown).to_have_text(re.compile("The server asks to wait: [23] s"))
    page.clock.fast_forward(3_000)
    expect(countdown).to_be_hidden()
    gateway.answers.put(answered("Hi"))
    again.click()
    expect(turn.locator(".md")).to_have_text("Hi")
    expect(turn.locator(".fault")).to_be_hidden()
    assert [body["messages"][0]["content"] for body, _ in gateway.received] == ["Hello", "Hello"]


def test_openai_form_of_an_error_is_shown_too(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 400")
    error = {
        "message": "temperature: must be at most 2",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": None,
    }
    gateway.answers.put(lambda: Response(json.dumps({"error": error}), status=400, mimetype="application/json"))
    turn = ask(page, "Hello")
    expect(turn.locator(".fault-message")).to_have_text("temperature: must be at most 2")
    expect(button(turn, "Try again")).to_be_hidden()


def test_a_question_that_is_refused_can_be_changed(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 413")
    gateway.answers.put(refusal(413, "prompt_too_long", "prompt: is too long", "shorten it"))
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)))
    turn = ask(page, "Hello")
    expect(turn.locator(".fault")).to_have_text(re.compile(r"^\s*prompt: is too long\s*Shorten it\s"))
    for name in ("Try again", "Leave out the oldest turns", "Start a new conversation"):
        expect(button(turn, name)).to_be_hidden()
    button(turn, "Edit the question").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(message(page)).to_be_focused()
    expect(message(page)).to_have_value("Hello")
    expect(page.get_by_role("listitem")).to_contain_text("a.png")


def test_an_unanswered_question_is_left_out_of_the_next_request(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 502")
    gateway.answers.put(refusal(502, "engine_failed", "the model server failed"))
    turn = ask(page, "Hello")
    expect(turn.locator(".fault")).to_be_visible()
    converse(page, gateway, ("Again", "Hi"))
    assert gateway.messages == [("user", "Again")]
    expect(turn).to_contain_text("Left out: the model doesn’t see this turn.")
    expect(button(turn, "Edit the question")).to_be_hidden()


TOO_LONG = [
    (413, "prompt_too_long", "the prompt has 2105 tokens, more than the model's context of 2048"),
    (400, "context_length_exceeded", "the prompt has 2105 tokens, more than the model's context of 2048"),
]


@pytest.mark.parametrize(("status", "code", "words"), TOO_LONG)
def test_a_conversation_that_is_too_long_goes_on_without_its_oldest_turns(
    open_page: Open, status: int, code: str, words: str
) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures=f"status of {status}")
    converse(page, gateway, ("One", "1" * 90), ("Two", "2" * 60), ("Three", "3" * 60))
    gateway.answers.put(refusal(status, code, words, "shorten it"))
    turn = ask(page, "Four")
    expect(turn.get_by_role("alert")).to_have_text(
        re.compile(r"The conversation has grown too long for the model\.\s*The prompt has 2105 tokens, .* of 2048\.")
    )
    gateway.answers.put(answered("4"))
    button(turn, "Leave out the oldest turns").click()
    expect_state(turn, "done")
    assert [content[:5] for _, content in gateway.messages] == ["Three", "33333", "Four"]
    expect(page.locator(".turn.out")).to_have_count(2)
    converse(page, gateway, ("Five", "5"))
    assert [content[:5] for _, content in gateway.messages] == ["Three", "33333", "Four", "4", "Five"]


def test_a_conversation_that_is_too_long_can_be_started_anew_with_its_last_question(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 413")
    converse(page, gateway, ("One", "1"))
    status, code, words = TOO_LONG[0]
    gateway.answers.put(refusal(status, code, words))
    button(ask(page, "Two"), "Start a new conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(message(page)).to_have_value("Two")
    gateway.answers.put(answered("2"))
    page.keyboard.press("Enter")
    expect_state(page.locator(".turn"), "done")
    assert gateway.messages == [("user", "Two")]


@pytest.mark.parametrize(("earlier", "offered"), [(True, 1), (False, 0)])
def test_images_that_are_too_large_can_be_left_out_where_they_are_earlier_ones(
    open_page: Open, earlier: bool, offered: int
) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 413")
    if earlier:
        hand_over(page, "drop", ("a.png", "image/png", png(2, 2)))
        expect(page.get_by_role("listitem")).to_have_count(1)
    converse(page, gateway, ("One", "1"))
    gateway.answers.put(refusal(413, "image_too_large", "all images: take too much to decode", "scale them down"))
    turn = ask(page, "Two")
    expect(turn.get_by_role("alert")).to_have_text(re.compile("All images: take too much to decode\\s*Scale them down"))
    expect(turn.get_by_role("button", name="Leave out the oldest turns")).to_have_count(offered)


def test_answer_of_a_proxy_is_shown_in_words(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="status of 502")
    gateway.answers.put(lambda: Response("<h1>Bad gateway</h1>", status=502))
    expect(ask(page, "Hello").locator(".fault")).to_contain_text("The server answered 502.")
    expect(page.locator("#status")).to_contain_text("Not reachable")


def test_server_that_cannot_be_reached_is_shown_in_words(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, failures="ERR_INTERNET_DISCONNECTED")
    page.context.set_offline(True)
    turn = ask(page, "Hello")
    expect(turn.locator(".fault")).to_contain_text("The server can’t be reached.")
    expect(page.locator("#status")).to_contain_text("Not reachable")
    page.context.set_offline(False)
    gateway.answers.put(answered("Hi"))
    button(turn, "Try again").click()
    expect(turn.locator(".md")).to_have_text("Hi")
