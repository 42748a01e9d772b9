"""What the page is, beside the conversation: its policy, models, key, curl, theme, and the smallest screen."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from testbed.gateway import Served
from testbed.stand_in import StandIn
from tests.support.page import (
    WAIT,
    Gateway,
    Open,
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


def test_page_has_a_strict_policy_with_a_nonce_of_its_own() -> None:
    client = Gateway().app.test_client()
    first, second = client.get("/"), client.get("/")
    policies = [response.headers["Content-Security-Policy"] for response in (first, second)]
    nonces = [set(re.findall(r"'nonce-([\w-]{20,})'", policy)) for policy in policies]
    assert len(nonces[0]) == len(nonces[1]) == 1 and nonces[0] != nonces[1]
    assert policies[0].replace(nonces[0].pop(), "N") == (
        "default-src 'none'; script-src 'nonce-N'; style-src 'nonce-N'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert first.headers["Cache-Control"] == "no-store"
    assert first.headers["Content-Type"] == "text/html; charset=utf-8"


def test_page_names_the_model_and_says_that_the_server_is_up(open_page: Open) -> None:
    page = open_page(Gateway())
    expect(page).to_have_title("moondream · Sluice")
    expect(page.get_by_label("Model")).to_have_value("moondream")
    expect(page.locator("#hero")).to_contain_text("Ask moondream")
    expect(page.locator("#hero")).to_contain_text("It reads text and images.")
    expect(page.locator("#status")).to_have_text(re.compile(r"^\s*Up\s*$"))


def test_model_name_cannot_inject_markup(open_page: Open) -> None:
    gateway = Gateway(model="</script><img/src=x/onerror=alert(1)>")
    html = gateway.app.test_client().get("/").text
    assert "<img/src=x" not in html and html.count("</script>") == 2


def test_status_shows_when_the_server_is_gone_and_back(open_page: Open) -> None:
    page = open_page(Gateway(), clock=True, failures="ERR_INTERNET_DISCONNECTED")
    page.context.set_offline(True)
    page.clock.fast_forward(15_000)
    expect(page.locator("#status")).to_have_text(re.compile(r"Not reachable since .+\. Checked every 15 s\."))
    page.context.set_offline(False)
    expect(page.locator("#status")).to_have_text(re.compile(r"^\s*Up\s*$"))


def test_the_chosen_model_is_asked(open_page: Open) -> None:
    gateway = Gateway()
    gateway.models = ["moondream", "llava"]
    page = open_page(gateway)
    expect(page.get_by_label("Model").get_by_role("option")).to_have_text(["moondream", "llava"])
    page.get_by_label("Model").select_option("llava")
    expect(page.locator("#hero")).to_contain_text("Ask llava")
    gateway.answers.put(answered("Hi"))
    turn = ask(page, "Hello")
    expect(turn.get_by_role("heading", name="llava")).to_be_visible()
    expect_state(turn, "done")
    assert gateway.sent["model"] == "llava"


def test_the_picker_has_the_models_that_chat_and_images_go_to_those_that_see(open_page: Open) -> None:
    page = open_page(gateway := Gateway(others={"vectors": ["embedding"], "text": ["completion"]}))
    expect(page.get_by_label("Model").get_by_role("option")).to_have_text(["moondream", "text"])
    pick = page.get_by_role("button", name="Add image")
    expect(pick).to_be_visible()
    expect(page.locator("#hero")).to_contain_text("It reads text and images.")
    page.get_by_label("Image files").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png(2, 2)})
    expect(page.get_by_label("Images").get_by_role("listitem")).to_have_count(1)
    page.get_by_label("Model").select_option("text")
    expect(pick).to_be_hidden()
    expect(page.locator("#hero")).to_contain_text("It reads text. ")
    expect(page.get_by_role("alert")).to_have_text("text reads text only.")
    gateway.answers.put(answered("Hi"))
    expect_state(ask(page, "Hello"), "done")
    assert gateway.messages == [("user", "Hello")]  # without the image


def test_images_wait_for_a_model_that_sees(open_page: Open) -> None:
    page = open_page(Gateway(vision=False, others={"eyes": ["completion", "vision"]}))
    pick = page.get_by_role("button", name="Add image")
    expect(page.locator("#hero")).to_contain_text("It reads text. ")
    expect(pick).to_be_hidden()
    page.get_by_label("Model").select_option("eyes")
    expect(pick).to_be_visible()


def test_a_model_that_only_embeds_is_not_asked(open_page: Open) -> None:
    page = open_page(gateway := Gateway(chats=False))
    expect(page.locator("#hero")).to_contain_text("It embeds texts, at /v1/embeddings and /api/embed.")
    ask(page, "Hello")
    expect(page.get_by_role("alert")).to_have_text("moondream can’t chat: embedding is all it does.")
    expect(page.locator(".turn")).to_have_count(0)
    assert gateway.received == []


def test_the_picker_follows_what_the_server_has(open_page: Open) -> None:
    gateway = Gateway()
    gateway.models = ["moondream", "llava"]
    page = open_page(gateway, clock=True)
    page.get_by_label("Model").select_option("llava")
    gateway.models = ["gemma", "llava"]
    page.clock.fast_forward(15_000)
    expect(page.get_by_label("Model").get_by_role("option")).to_have_text(["gemma", "llava"])
    expect(page.get_by_label("Model")).to_have_value("llava")
    gateway.models = ["gemma"]
    page.clock.fast_forward(15_000)
    expect(page.get_by_label("Model")).to_have_value("gemma")
    expect(page).to_have_title("gemma · Sluice")


def test_key_is_sent_and_kept_in_the_tab_only(open_page: Open) -> None:
    gateway = Gateway(api_keys_file="keys.toml")
    page = open_page(gateway, failures="status of 401")
    expect(page.get_by_label("API key")).to_be_focused()
    gateway.answers.put(refusal(401, "unauthorized", "This server needs an API key."))
    turn = ask(page, "Hello")
    expect(turn.locator(".fault")).to_contain_text("This server needs an API key.")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill("secret")
    page.reload()
    expect(page.get_by_label("API key")).to_have_value("secret")
    assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
    converse(page, gateway, ("Hello", "Hi"))
    assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
    assert [key for _, key in gateway.received] == [None, "Bearer secret"]


def test_key_that_was_taken_makes_room_until_it_is_refused(open_page: Open) -> None:
    gateway = Gateway(api_keys_file="keys.toml")
    page = open_page(gateway, failures="status of 401")
    key = page.get_by_label("API key")
    key.fill("secret")
    message(page).focus()
    expect(key).to_be_hidden()  # GET /v1/models took it
    page.get_by_role("button", name="Options").click()
    expect(key).to_be_visible()
    page.get_by_role("button", name="Options").click()
    expect(key).to_be_hidden()
    gateway.answers.put(refusal(401, "unauthorized", "This key is not known."))
    turn = ask(page, "Hello")
    expect(key).to_be_focused()
    expect(key).to_have_attribute("aria-invalid", "true")
    gateway.answers.put(answered("Hi"))
    key.fill("another")
    page.keyboard.press("Enter")  # asks again
    expect_state(turn, "done")
    assert [key for _, key in gateway.received] == ["Bearer secret", "Bearer another"]


def test_no_key_field_without_keys(open_page: Open) -> None:
    expect(open_page(Gateway()).get_by_label("API key")).to_have_count(0)


@pytest.mark.parametrize("prompt", ['It\'s $HOME, `id`, \\n and "quotes"\nin two lines é', "plain", "long " * 20_000])
@pytest.mark.parametrize("images", [[], ["it's a $(cat) picture.png"]])
def test_copied_curl_line_sends_the_same(open_page: Open, tmp_path: Path, prompt: str, images: list[str]) -> None:
    gateway = Gateway(api_keys_file="keys.toml")
    page = open_page(gateway)
    page.get_by_label("API key").fill("secret")
    for name in [*images, "late.png"]:
        (tmp_path / name).write_bytes(png(200, 200, noise=True))  # far longer than an argument may be
        hand_over(page, "drop", (name, "image/png", (tmp_path / name).read_bytes()))
        expect(page.locator("#images").get_by_role("listitem")).to_have_count(1)
        if name in images:
            converse(page, gateway, ("It's `one` of $2", "So it is: $(3)"))
        elif not images:
            button(page, f"Remove {name}").click()
    message(page).fill(prompt)
    page.get_by_role("button", name="Options").click()
    page.get_by_text("The same with curl").click()
    page.locator("#curl").get_by_role("button").click()
    expect(page.locator("#copy-curl")).to_have_text("Copied")
    line = page.evaluate("navigator.clipboard.readText()")
    for _ in range(2):
        gateway.answers.put(answered("Hi"))
    environ = {"PATH": os.environ["PATH"], "SLUICE_API_KEY": "secret"}
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, check=True)
    assert b'"content": "Hi"' in done.stdout and done.stdout.endswith(b"data: [DONE]\n\n")
    button(page, "Send").click()
    expect_state(page.locator(".turn").last, "done")
    by_curl, by_page = gateway.received[-2:]
    assert by_curl == by_page


def brightness(page: Page) -> int:
    """Return the background's brightness, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(re.findall(r"\d+", colour)[0])


def test_theme_follows_the_system_until_it_is_chosen(open_page: Open) -> None:
    page = open_page(Gateway(), color_scheme="dark")
    toggle = page.get_by_role("button", name="Dark theme")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert brightness(page) < 40
    page.emulate_media(color_scheme="light")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert brightness(page) > 220
    toggle.click()
    assert brightness(page) < 40
    page.reload()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert brightness(page) < 40
    toggle.click()
    assert brightness(page) > 220
    assert page.evaluate("localStorage.length") == 0  # the same as the system's: nothing to remember


WIDE = """# Supercalifragilisticexpialidocious-and-some-more-without-a-break-in-between-at-all

| one | two | three | four | five | six | seven | eight |
|---|---|---|---|---|---|---|---|
| aaaaaaaaaaaa | bbbbbbbbbbbb | cccccccccccc | dddddddddddd | eeeeeeeeeeee | ffffffffffff | gggggggggg | hhhhhhhhhh |

- a
  - b
    - c
      - d
        - e
          - f https://example.com/a/very/long/address/that/goes/on/and/on/and/on/without/any/space

> > > > > > deep `inline_code_that_is_as_long_as_a_line_of_code_may_become_in_some_languages_and_longer`

```python
result = some_function_with_a_long_name(argument_one, argument_two, argument_three, argument_four, argument_five)
```
"""


def test_nothing_is_wider_than_a_small_screen(open_page: Open) -> None:
    gateway = Gateway(model="hf.co/somebody/A-Model-With-A-Very-Long-Name-1.5B-Instruct-GGUF:Q4_K_M")
    gateway.models = ["hf.co/somebody/A-Model-With-A-Very-Long-Name-1.5B-Instruct-GGUF:Q4_K_M"]
    page = open_page(gateway, viewport={"width": 360, "height": 700}, failures="status of 503|DISCONNECTED")

    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))

    assert fits()
    hand_over(page, "drop", ("a" * 80 + ".png", "image/png", png(900, 20)))
    expect(page.get_by_role("listitem")).to_have_count(1)
    converse(page, gateway, ("word" * 100, WIDE))
    for name in (".code pre", ".table"):  # scroll by themselves
        assert page.locator(name).evaluate("node => node.scrollWidth > node.clientWidth"), name
    assert fits()
    hand_over(page, "drop", ("a" * 80 + ".png", "image/png", png(20, 20)))
    page.get_by_role("button", name="Options").click()
    page.get_by_text("The same with curl").click()
    gateway.answers.put(refusal(503, "saturated", "Every slot is busy." * 9, "x" * 200, Retry_After="70"))
    turn = ask(page, "word" * 100)
    expect(turn.locator(".fault")).to_be_visible()
    page.context.set_offline(True)
    page.evaluate("poll()")
    expect(page.locator("#status")).to_contain_text("Not reachable")
    assert fits()
    for name in ("New conversation", "Dark theme", "Send", "Try again"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and min(box["width"], box["height"]) >= 36, name


def test_policy_stops_what_did_not_come_with_the_page(open_page: Open) -> None:
    page = open_page(Gateway(), failures="Content Security Policy")

    def answer(route: Route) -> None:
        route.fulfill(body="reached")

    page.route("http://elsewhere.invalid/**", answer)
    ran, fetched = page.evaluate(
        """async () => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          return [window.ran ?? false, await fetch("http://elsewhere.invalid/").then(() => true, () => false)];
        }"""
    )
    assert not ran and not fetched


# The whole service


def test_a_conversation_with_the_service_itself(
    make_server: Callable[..., Served], stand_in: StandIn, browser: Browser
) -> None:
    stand_in.tokens = ["**Hel", "lo**", " there"]
    served = make_server()
    page = browser.new_page()
    page.set_default_timeout(WAIT * 1000)
    page.goto(served.url)
    turn = ask(page, "Hi")
    expect_state(turn, "done")
    expect(turn.locator(".md strong")).to_have_text("Hello")
    expect(turn.locator(".tokens")).to_have_text("3 tokens")
    expect_state(ask(page, "And now?"), "done")
    sent = [(message["role"], message["content"]) for message in stand_in.chats()[-1]["messages"]]
    assert sent == [("user", "Hi"), ("assistant", "**Hello** there"), ("user", "And now?")]
    expect_state(ask(page, "So?"), "done")
    stand_in.error = (400, "the request (2105 tokens) exceeds the available context size (2048 tokens)")
    turn = ask(page, "More?")
    expect(turn.locator(".fault-message")).to_have_text("The conversation has grown too long for the model.")
    stand_in.error = None
    button(turn, "Leave out the oldest turns").click()
    expect_state(turn, "done")
    assert [message["content"] for message in stand_in.chats()[-1]["messages"]] == ["So?", "**Hello** there", "More?"]
    page.close()
