"""The page for the keyboard alone, a phone, a screen reader, and whoever wants no motion."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from testbed.waiting import eventually
from tests.support.page import (
    STREAMED,
    Gateway,
    Open,
    Stream,
    answered,
    ask,
    button,
    expect_state,
    hand_over,
    message,
    png,
)


@pytest.mark.parametrize("keys", ["Enter", "Control+Enter", "Meta+Enter"])
def test_keyboard_sends_with_every_option(open_page: Open, keys: str) -> None:
    gateway = Gateway(max_tokens=100)
    page = open_page(gateway)
    gateway.answers.put(answered("Hi"))
    page.get_by_role("button", name="Options").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Longest answer, in tokens").fill("64")
    page.get_by_label("Temperature").fill("0.2")
    message(page).fill("Hello")
    page.keyboard.press(keys)
    expect_state(page.locator(".turn"), "done")
    assert gateway.sent == {
        "model": "moondream",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        **STREAMED,
        "max_tokens": 64,
        "temperature": 0.2,
    }


def test_shift_and_enter_break_the_line(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    expect(message(page)).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    gateway.answers.put(answered("Hi"))
    page.keyboard.press("Enter")
    expect_state(page.locator(".turn"), "done")
    assert gateway.messages == [("user", "one\ntwo")]


def test_enter_breaks_the_line_on_a_phone(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway, has_touch=True, is_mobile=True, viewport={"width": 360, "height": 700})
    message(page).tap()
    page.keyboard.type("one")
    page.keyboard.press("Enter")
    page.keyboard.type("two")
    gateway.answers.put(answered("Hi"))
    button(page, "Send").tap()
    expect_state(page.locator(".turn"), "done")
    assert gateway.messages == [("user", "one\ntwo")]


def focused(page: Page) -> str:
    """Return the name of what has the focus, once it can be seen: its ring comes gradually."""
    seen: list[Any] = []

    def visible() -> bool:
        seen[:] = page.evaluate(
            """() => {
              const node = document.activeElement, style = getComputedStyle(node);
              const label = node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.textContent;
              const composer = getComputedStyle(document.querySelector(".composer")).boxShadow.includes("1px");
              const outlined = style.outlineStyle !== "none" && style.outlineWidth !== "0px";
              return [label.trim(), outlined || (node.id === "prompt" && composer)];
            }"""
        )
        return bool(seen[1])

    eventually(visible)
    return str(seen[0])


def backwards(page: Page, steps: int) -> list[str]:
    """Return the names of what gets the focus when it goes back by so many steps."""
    names = []
    for _ in range(steps):
        page.keyboard.press("Shift+Tab")
        names.append(focused(page))
    return names


def test_a_conversation_by_the_keyboard_alone(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    keys = page.keyboard
    keys.type("Hello")
    gateway.answers.put(answered(f"```\n{'wide ' * 60}\n```"))
    keys.press("Enter")
    expect_state(page.locator(".turn"), "done")
    assert focused(page) == "Message"
    scrolls = ("wide " * 60).strip()
    assert backwards(page, 7) == ["Regenerate", "Copy", scrolls, "Copy code", "Dark theme", "New conversation", "Model"]
    page.get_by_role("button", name="Regenerate").focus()
    gateway.answers.put(stream := Stream())
    keys.press("Enter")
    assert focused(page) == "Stop"  # what had the focus is gone
    stream.send("More")
    expect(page.locator(".md")).to_have_text("More")
    keys.press("Enter")
    expect_state(page.locator(".turn"), "stopped")
    assert focused(page) == "Send"
    assert backwards(page, 3) == ["Options", "Add image", "Message"]


def test_a_screen_reader_hears_finished_blocks_once_and_the_end(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    spoken = page.locator("#spoken")
    expect(spoken).to_have_attribute("aria-live", "polite")
    gateway.answers.put(stream := Stream())
    turn = ask(page, "Tell me")
    stream.send("The first **par", "agraph**.\n\nThe se")
    expect(turn.locator(".md p")).to_have_count(2)
    expect(spoken.locator("p")).to_have_text([])
    stream.send("cond.\n\n```\nx = 1\n```\n")
    expect(turn.locator(".code")).to_be_visible()
    expect(spoken.locator("p")).to_have_text(["The first paragraph.", "The second."])
    stream.end()
    expect(spoken.locator("p")).to_have_text(["The first paragraph.", "The second.", "A block of code."])
    expect(page.locator("#say")).to_have_text(re.compile(r"^Done: 41 tokens in [\d.]+ s\.$"))


def test_every_control_has_a_name(open_page: Open) -> None:
    gateway = Gateway(api_keys_file="keys.toml")
    page = open_page(gateway)
    hand_over(page, "drop", ("a.png", "image/png", png(2, 2)))
    expect(page.get_by_role("listitem")).to_have_count(1)
    page.get_by_role("button", name="Options").click()
    named = page.get_by_role("button", name=re.compile(r"\w")).count()
    assert named == page.get_by_role("button").count() == 6
    for role, count in (("textbox", 3), ("spinbutton", 2), ("combobox", 1)):
        assert page.get_by_role(role, name=re.compile(r"\w")).count() == count  # type: ignore[arg-type]
    assert page.get_by_role("heading", level=1).inner_text() == "Sluice"


def test_nothing_moves_for_who_wants_no_motion(open_page: Open) -> None:
    gateway = Gateway()
    for wish, animation in (("no-preference", "breathe"), ("reduce", "none")):
        page = open_page(gateway, reduced_motion=wish)
        gateway.answers.put(Stream())
        state = ask(page, "Slow").locator(".state")
        expect(state).to_have_text("Waiting for the first token …")
        assert state.evaluate("node => getComputedStyle(node, '::before').animationName") == animation


def test_the_end_stays_in_sight_unless_the_reader_scrolls_away(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    turn = ask(page, "A poem")
    stream.send("line\n\n" * 60)
    last = turn.locator(".md p").nth(59)
    expect(last).to_be_in_viewport()
    page.mouse.wheel(0, -600)
    expect(last).not_to_be_in_viewport()
    stream.send("more\n\n" * 20)
    expect(turn.locator(".md p")).to_have_count(80)
    expect(turn.locator(".md p").last).not_to_be_in_viewport()
    stream.end()
    expect_state(turn, "done")


def test_option_out_of_range_is_shown_and_not_sent(open_page: Open) -> None:
    gateway = Gateway(max_tokens=100)
    page = open_page(gateway)
    page.get_by_role("button", name="Options").click()
    page.get_by_label("Longest answer, in tokens").fill("101")
    page.get_by_role("button", name="Options").click()
    message(page).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Longest answer, in tokens")).to_be_focused()
    assert gateway.received == []


def test_empty_message_is_not_sent(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    ask(page, "  ")
    expect(page.get_by_role("alert")).to_have_text("Type a message first.")
    assert gateway.received == []
