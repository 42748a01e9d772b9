"""A conversation on the page: answers, stop, regenerate, copy, and a new one."""

import queue
import re

import pytest
from flask import Response
from playwright.sync_api import expect

from tests.support.page import (
    STREAMED,
    USAGE,
    WAIT,
    Gateway,
    Open,
    Stream,
    answered,
    ask,
    button,
    converse,
    expect_state,
    message,
    refusal,
)


def test_answer_is_shown_piece_by_piece_with_its_figures(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    turn = ask(page, "Why is the sky blue?")
    expect(turn.locator(".question-text")).to_have_text("Why is the sky blue?")
    expect(message(page)).to_have_value("")
    expect(turn.locator(".state")).to_have_text("Waiting for the first token …")
    expect(turn.locator(".first")).to_be_hidden()
    stream.send("Because")
    expect(turn.locator(".md")).to_have_text("Because")
    expect(turn.locator(".state")).to_have_text("Answering …")
    expect(turn.locator(".first")).to_have_text(re.compile(r"^\d+(\.\d+)? s$"))
    stream.send(" of", " Rayleigh scattering.")
    expect(turn.locator(".md")).to_have_text("Because of Rayleigh scattering.")
    expect(turn.locator(".tokens")).to_have_text("≈ 3 tokens")
    expect(turn.locator(".speed")).to_have_text(re.compile(r"^\d+\.\d tokens/s$"))
    stream.end()
    expect_state(turn, "done")
    expect(turn.locator(".state")).to_have_text("")
    expect(turn.locator(".prompt-tokens")).to_have_text("7 tokens")
    expect(turn.locator(".tokens")).to_have_text("41 tokens")
    first, total, speed = (float(turn.locator(name).inner_text().split()[0]) for name in (".first", ".total", ".speed"))
    assert 0 < first < total
    rounded = 0.1  # seconds, both together; 41 tokens are 40 intervals
    assert 40 / (total - first + rounded) < speed < 40 / max(total - first - rounded, 0.1)
    expect(button(page, "Stop")).to_be_hidden()
    asked = {"model": "moondream", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    assert gateway.received == [({**asked, **STREAMED}, None)]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (41, "Cut off: the model’s context is full, or the model repeats itself."),
        (512, "Cut off at the limit of tokens."),
    ],
)
def test_an_answer_that_was_cut_off_says_why(open_page: Open, tokens: int, said: str) -> None:
    gateway = Gateway(max_tokens=512)
    page = open_page(gateway)
    gateway.answers.put(answered("One, two", reason="length", usage=USAGE | {"completion_tokens": tokens}))
    expect(ask(page, "Count").locator(".after")).to_have_text(said)


def test_characters_split_between_two_packets_arrive_whole(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    parts: queue.Queue[bytes] = queue.Queue()
    answer = 'data: {"choices": [{"delta": {"content": "café"}}]}\r\n\r\n: a comment\r\n\r\ndata: [DONE]'.encode()
    gateway.answers.put(lambda: Response(iter(parts.get, b""), mimetype="text/event-stream"))
    turn = ask(page, "Coffee?")
    split = answer.index(b"\xc3") + 1
    parts.put(answer[:split])
    expect(turn.locator(".state")).to_have_text("Waiting for the first token …")
    parts.put(answer[split:])
    parts.put(b"")
    expect_state(turn, "done")
    expect(turn.locator(".md")).to_have_text("café")
    expect(turn.locator(".tokens")).to_have_text("≈ 1 token")  # without usage
    expect(turn.locator(".prompt-tokens")).to_be_hidden()


def test_thoughts_are_folded_and_not_sent_back(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    turn = ask(page, "What is 6 × 7?")
    stream.think("Six times", " seven …")
    expect(turn.locator(".state")).to_have_text("Thinking …")
    expect(turn.locator(".thoughts-text")).to_be_hidden()
    turn.get_by_text("Thoughts").click()
    expect(turn.locator(".thoughts-text")).to_have_text("Six times seven …")
    stream.send("42")
    stream.think(" done")
    stream.end()
    expect_state(turn, "done")
    expect(turn.locator(".thoughts-text")).to_have_text("Six times seven … done")
    expect(turn.locator(".thoughts-text")).to_be_visible()
    converse(page, gateway, ("And 7 × 7?", "49"))
    assert gateway.messages == [("user", "What is 6 × 7?"), ("assistant", "42"), ("user", "And 7 × 7?")]


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_closes_the_connection_and_keeps_the_text(open_page: Open, how: str) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    turn = ask(page, "Tell me a long story")
    stream.send("Once upon")
    expect(turn.locator(".md")).to_have_text("Once upon")
    if how == "button":
        button(page, "Stop").click()
    else:
        page.keyboard.press("Escape")
    assert stream.left.wait(WAIT)
    expect(turn.locator(".state")).to_have_text("Stopped")
    expect(turn.locator(".md")).to_have_text("Once upon")
    expect(turn.locator(".tokens")).to_have_text("≈ 1 token")
    expect(turn.locator(".fault")).to_be_hidden()
    converse(page, gateway, ("Go on", "a time."))
    assert gateway.messages == [("user", "Tell me a long story"), ("assistant", "Once upon"), ("user", "Go on")]


def test_stop_works_before_the_first_token(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    turn = ask(page, "Slow")
    button(page, "Stop").click()
    assert stream.left.wait(WAIT)
    expect(turn.locator(".state")).to_have_text("Stopped")
    expect(turn.locator(".first")).to_be_hidden()
    converse(page, gateway, ("Fast", "Yes."))
    assert gateway.messages == [("user", "Fast")]  # a question without an answer isn't part of the conversation


# A conversation


def test_earlier_turns_are_sent_with_the_next_question(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    page.get_by_role("button", name="Options").click()
    page.get_by_label("System prompt").fill("Be brief.")
    converse(page, gateway, ("Hello", "**Hi**"), ("Who are you?", "A model."), ("Bye", "Bye."))
    assert gateway.messages == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "**Hi**"),
        ("user", "Who are you?"),
        ("assistant", "A model."),
        ("user", "Bye"),
    ]
    expect(page.locator(".turn .md")).to_have_text(["Hi", "A model.", "Bye."])


def test_the_last_answer_can_be_made_again(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    converse(page, gateway, ("Hello", "Hi"), ("A number?", "One"))
    expect(button(page, "Regenerate")).to_have_count(1)  # of two turns
    gateway.answers.put(stream := Stream())
    button(page, "Regenerate").click()
    turn = page.locator(".turn").last
    expect_state(turn, "waiting")
    expect(turn.locator(".md")).to_have_text("One")  # which stays until there is another
    stream.send("Two")
    expect(turn.locator(".md")).to_have_text("Two")
    stream.end()
    expect_state(turn, "done")
    assert gateway.messages == [("user", "Hello"), ("assistant", "Hi"), ("user", "A number?")]
    converse(page, gateway, ("Thanks", "Welcome"))
    assert gateway.messages[2:] == [("user", "A number?"), ("assistant", "Two"), ("user", "Thanks")]


@pytest.mark.parametrize("how", ["refused", "stopped"])
def test_an_answer_that_is_not_made_again_stays(open_page: Open, how: str) -> None:
    gateway = Gateway()
    gateway.models = ["moondream", "llava"]
    page = open_page(gateway, failures="status of 503")
    converse(page, gateway, ("A number?", "One"))
    turn = page.locator(".turn").last
    page.get_by_label("Model").select_option("llava")
    gateway.answers.put(refusal(503, "saturated", "every slot is busy") if how == "refused" else Stream())
    button(page, "Regenerate").click()
    if how == "refused":
        expect(turn.locator(".fault")).to_contain_text("Every slot is busy")
        expect(button(turn, "Edit the question")).to_be_hidden()
    else:
        expect_state(turn, "waiting")
        button(page, "Stop").click()
        expect(page.locator("#say")).to_have_text("Stopped")
    expect_state(turn, "done")  # as it was
    expect(turn.locator(".md")).to_have_text("One")
    expect(turn.locator(".who")).to_have_text("moondream")
    expect(turn.locator(".tokens")).to_have_text("41 tokens")
    converse(page, gateway, ("Thanks", "Welcome"))
    assert gateway.messages == [("user", "A number?"), ("assistant", "One"), ("user", "Thanks")]


def test_a_new_conversation_forgets_the_old_one_and_leads_back(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    expect(button(page, "Back to the last conversation")).to_be_hidden()
    converse(page, gateway, ("Hello", "Hi"))
    expect(page.locator("#hero")).to_be_hidden()
    button(page, "New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(message(page)).to_be_focused()
    button(page, "Back to the last conversation").click()
    expect(page.locator(".turn .md")).to_have_text("Hi")
    button(page, "New conversation").click()
    converse(page, gateway, ("Who?", "Me"))
    assert gateway.messages == [("user", "Who?")]


def test_a_new_conversation_stops_what_is_under_way(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    stream.send("Once")
    expect(ask(page, "A story").locator(".md")).to_have_text("Once")
    button(page, "New conversation").click()
    assert stream.left.wait(WAIT)
    converse(page, gateway, ("Hello", "Hi"))
    assert gateway.messages == [("user", "Hello")]


def test_a_question_typed_meanwhile_waits(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    turn = ask(page, "First")
    stream.send("1")
    expect(turn.locator(".md")).to_have_text("1")
    message(page).fill("Second")
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_have_text("Wait for the answer, or stop it with Escape.")
    expect(message(page)).to_have_value("Second")
    stream.end()
    expect_state(turn, "done")
    gateway.answers.put(answered("2"))
    page.keyboard.press("Enter")
    expect(page.locator(".turn .md")).to_have_text(["1", "2"])


def test_only_the_newest_turns_are_sent_of_a_very_long_conversation(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    page.evaluate("for (let i = 0; i < 501; i++) addTurn(`Q${i}`, []).answer = `A${i}`")
    converse(page, gateway, ("Last", "Yes"))
    assert len(gateway.messages) == 1001 and gateway.messages[0] == ("user", "Q1")
    expect(page.locator(".turn.out")).to_have_count(1)
    expect(page.locator(".turn").first).to_contain_text("Left out: the model doesn’t see this turn.")


def test_an_answer_and_a_block_of_code_can_be_copied(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    text = "Run *this*:\n\n```sh\necho '<b>'\n\tls\n```\n"
    converse(page, gateway, ("How?", text))
    button(page, "Copy").click()
    expect(button(page, "Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text
    button(page, "Copy code").click()
    expect(page.locator(".copy-code")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "echo '<b>'\n\tls"


def test_copying_works_where_the_page_came_over_plain_http(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as in no secure context
    converse(page, gateway, ("How?", "Like *this*"))
    button(page, "Copy").click()
    expect(button(page, "Copied")).to_be_focused()
    message(page).focus()
    page.keyboard.press("Control+V")
    expect(message(page)).to_have_value("Like *this*")
