"""The model's Markdown on the page: what it becomes, what it never becomes, and that a long one doesn't freeze it."""

import random
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.page import Gateway, Open, Stream, answered, ask, expect_state

# Returns the markup of a text that came in `pieces`, and how many seconds all of it took.
RENDER = """pieces => {
  const node = el("div"), show = growing(node, () => {});
  const began = performance.now();
  pieces.forEach((_, i) => show(pieces.slice(0, i + 1).join(""), i === pieces.length - 1));
  return [node.innerHTML, (performance.now() - began) / 1000];
}"""


@pytest.fixture(scope="module")
def renderer(browser: Browser) -> Iterator[Page]:
    """A page whose own renderer is called; nothing is sent."""
    page = browser.new_page()
    with Gateway().serve() as url:
        page.goto(url)
        yield page
        page.close()


def render(page: Page, *pieces: str) -> str:
    html, _ = page.evaluate(RENDER, list(pieces))
    return str(html)


def anchor(url: str, text: str) -> str:
    return f'<a href="{url}" title="{url}" target="_blank" rel="noopener noreferrer">{text}</a>'


def code_block(language: str, code: str) -> str:
    head = f'<span>{language}</span><button type="button" class="quiet copy-code" aria-label="Copy code">Copy</button>'
    return f'<div class="code"><div class="code-head">{head}</div><pre><code>{code}</code></pre></div>'


X, Y = "https://x.org/", "https://y.org/"
INLINE = [
    ("plain", "plain"),
    ("*a* _b_ **c** __d__", "<em>a</em> <em>b</em> <strong>c</strong> <strong>d</strong>"),
    ("***e*** ~~f~~", "<strong><em>e</em></strong> <del>f</del>"),
    ("**a *b* c**", "<strong>a <em>b</em> c</strong>"),
    ("**bold:**text", "<strong>bold:</strong>text"),
    ("2 * 3 * 4 and a ** b", "2 * 3 * 4 and a ** b"),
    ("snake_case_name and __init__.py", "snake_case_name and <strong>init</strong>.py"),
    ("**never closed", "**never closed"),
    ("*a **b* c**", "<em>a **b</em> c**"),
    ("`code *as* it <b>is</b>`", "<code>code *as* it &lt;b&gt;is&lt;/b&gt;</code>"),
    ("``a ` b`` and `c", "<code>a ` b</code> and `c"),
    ("`` `x` ``", "<code>`x`</code>"),
    (r"\*not\* \_emphasised\_ \\ \`", "*not* _emphasised_ \\ `"),
    (r"\(x_1\) and \[y\]", r"\(x_1\) and \[y\]"),
    ("one<br>two<BR/>three", "one<br>two<br>three"),
    ("&lt;b&gt; &amp;&nbsp;&quot; &unknown; &#60;", '&lt;b&gt; &amp;&nbsp;" &amp;unknown; &amp;#60;'),
    (f'[a *b*]({X} "title")', anchor(X, "a <em>b</em>")),
    (f"[a](<{X}p>) [b]( {X}w_(c) )", f"{anchor(X + 'p', 'a')} {anchor(X + 'w_(c)', 'b')}"),
    (f"see {X}a_b?c=d, or ({Y}).", f"see {anchor(X + 'a_b?c=d', X + 'a_b?c=d')}, or ({anchor(Y, Y)})."),
    (f"<{X}> **{Y}**", f"{anchor(X, X)} <strong>{anchor(Y, Y)}</strong>"),
    (f"[{X}]({Y})", anchor(Y, X)),
    (f"[[a]({X})]({Y})", f"[{anchor(X, 'a')}]({anchor(Y, Y)})"),
    (f"![a cat]({X}cat.png)", anchor(f"{X}cat.png", "a cat")),
    ("[x] ] [ ![", "[x] ] [ !["),
    ("two\nlines\\\nand   \na third", "two\nlines\nand\na third"),
]


@pytest.mark.parametrize(("text", "html"), INLINE)
def test_a_line_becomes(renderer: Page, text: str, html: str) -> None:
    assert render(renderer, text) == f"<p>{html}</p>"


def head(*cells: str) -> str:
    return f'<div class="table"><table><thead><tr>{"".join(cells)}</tr></thead><tbody>'


BLOCKS = [
    ("# One\n## *Two* ##", '<h4 class="h1">One</h4><h5 class="h2"><em>Two</em></h5>'),
    ("###### Six\n####### seven", '<h6 class="h6">Six</h6><p>####### seven</p>'),
    ("a\n\nb\n***\nc", "<p>a</p><p>b</p><hr><p>c</p>"),
    ("- a\n* b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    ("- a\n  - b\n    1. c", "<ul><li><p>a</p><ul><li><p>b</p><ol><li><p>c</p></li></ol></li></ul></li></ul>"),
    ("1. a\n\n2. b\n\n   more\n\nafter", "<ol><li><p>a</p></li><li><p>b</p><p>more</p></li></ol><p>after</p>"),
    ("3) a\n- b", '<ol start="3"><li><p>a</p></li></ol><ul><li><p>b</p></li></ul>'),
    ("1. a\n  - b\nlazy", "<ol><li><p>a</p><ul><li><p>b\nlazy</p></li></ul></li></ol>"),
    ("- a\nlazy", "<ul><li><p>a\nlazy</p></li></ul>"),
    ("A year:\n1984. It was.", "<p>A year:\n1984. It was.</p>"),
    ("- a\n  ```py\n  x\n    y\n  ```", "<ul><li><p>a</p>" + code_block("py", "x\n  y") + "</li></ul>"),
    ("> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
    (">- a\n>\nb", "<blockquote><ul><li><p>a</p></li></ul></blockquote><p>b</p>"),
    ("```html\n<b>&amp;\n\n\t*x*\n```\na", code_block("html", "&lt;b&gt;&amp;amp;\n\n\t*x*") + "<p>a</p>"),
    ("~~~\n```\n~~~~", code_block("code", "```")),
    ("```", code_block("code", "")),
    ("```js\nnever(closed)\n", code_block("js", "never(closed)\n")),
    ("```a `b` ```", "<p><code>a `b` </code></p>"),
    (
        "| a | *b* | c |\n|---|:-:|--:|\n| 1 | x \\| y |\nafter",
        head("<th>a</th>", '<th class="center"><em>b</em></th>', '<th class="right">c</th>')
        + '<tr><td>1</td><td class="center">x | y</td><td class="right"></td></tr></tbody></table></div><p>after</p>',
    ),
    ("text\na|b\n-|-\n", f"<p>text</p>{head('<th>a</th>', '<th>b</th>')}</tbody></table></div>"),
    ("a | b\n|---|\nc", "<p>a | b\n|---|\nc</p>"),
    ("a\n      b", "<p>a\n      b</p>"),
]


@pytest.mark.parametrize(("text", "html"), BLOCKS)
def test_lines_become(renderer: Page, text: str, html: str) -> None:
    assert render(renderer, text) == html


SAMPLE = """


text
*more* text
- item
  - inner
    deeper
1. one
2. two
   under two
```
```py
  ```
code(x)
# Heading
---
> quote
> - in a quote
| a | b |
|---|---|
| 1 | 2 |
**open
close** it
[link](https://x.org/)
~~~
* star
10. ten
	tab"""


def test_a_text_that_grows_ends_as_if_it_had_come_at_once(renderer: Page) -> None:
    choose = random.Random(13)
    for _ in range(150):
        text = "\n".join(choose.choices(SAMPLE.splitlines(), k=choose.randint(1, 14)))
        assert render(renderer, *text) == render(renderer, text), text


def test_finished_blocks_and_a_selection_stay_while_a_text_grows(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    turn = ask(page, "Go")
    stream.send("First paragraph.\n\n1. one\n2. tw")
    expect(turn.locator("li")).to_have_count(2)
    page.evaluate(
        """() => {
          for (const node of document.querySelectorAll(".md p")) node.known = true;
          getSelection().selectAllChildren(document.querySelector(".md li p"));
        }"""
    )
    stream.send("o\n3. three\n\nLast")
    stream.end()
    expect_state(turn, "done")
    expect(turn.locator(".md p")).to_have_text(["First paragraph.", "one", "two", "three", "Last"])
    known = page.evaluate("[...document.querySelectorAll('.md p')].map(node => node.known ?? false)")
    assert known == [True, True, True, False, False]
    assert page.evaluate("getSelection().toString()") == "one"


HOSTILE = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror=window.hit=1>",
    "<svg/onload=window.hit=1>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "[click](javascript:window.hit=1)",
    "[click]( JaVaScRiPt:window.hit=1 )",
    "[click](java\tscript:window.hit=1)",
    "[click](&#106;avascript:window.hit=1)",
    "[click](data:text/html,<script>window.hit=1</script>)",
    "[click](//evil.invalid/) [click](/generate) [click](vbscript:x)",
    "<javascript:window.hit=1>",
    "![x](javascript:window.hit=1) ![x](data:image/svg+xml,<svg/onload=window.hit=1>)",
    "![pixel](https://evil.invalid/pixel.png?secret)",
    '[a](https://x.org/"onmouseover="window.hit=1)',
    '```"><script>window.hit=1</script>\n</code></pre><script>window.hit=1</script>\n```',
    "| <img src=x onerror=window.hit=1> | b |\n|---|---|\n| <script>window.hit=1</script> | c |",
    "# <style>*{display:none}</style>",
    '<a href="javascript:window.hit=1">x</a> <form action=https://evil.invalid><button>x',
    "[a](https://user:pass@evil.invalid/\u202egnp.exe)",
]


def test_no_text_of_the_model_becomes_markup_or_is_fetched(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)  # which checks afterwards that no request left the server
    gateway.answers.put(answered(*(f"{text}\n\n" for text in HOSTILE)))
    turn = ask(page, "Attack")
    expect_state(turn, "done")
    names, attributes, links = page.evaluate(
        """() => {
          const nodes = [...document.querySelectorAll(".md *")];
          return [nodes.map(node => node.localName), nodes.flatMap(node => node.getAttributeNames()),
                  [...document.querySelectorAll(".md a")].map(a => [new URL(a.href).protocol, a.rel, a.target])];
        }"""
    )
    table = {"table", "thead", "tbody", "tr", "th", "td"}
    assert set(names) <= {"p", "code", "pre", "div", "span", "button", "a", "h4"} | table
    assert set(attributes) <= {"class", "href", "title", "target", "rel", "type", "aria-label"}
    assert links and all(link == ["https:", "noopener noreferrer", "_blank"] for link in links)
    for text in (
        "<script>window.hit = 1</script>",
        "[click](javascript:window.hit=1)",
        "<style>*{display:none}</style>",
    ):
        expect(turn.locator(".md")).to_contain_text(text)
    for control in page.locator(".md a, .md button").all():
        control.dispatch_event("mouseover")
    assert page.evaluate("window.hit ?? null") is None


def test_a_question_and_thoughts_are_text_as_they_are(open_page: Open) -> None:
    gateway = Gateway()
    page = open_page(gateway)
    gateway.answers.put(stream := Stream())
    text = "<b>a</b> **b**\n  [c](https://x.org/)"
    stream.think(text)
    stream.send("x")
    stream.end()
    turn = ask(page, text)
    expect_state(turn, "done")
    for name in (".question-text", ".thoughts-text"):
        assert turn.locator(name).evaluate("node => [node.textContent, node.children.length]") == [text, 0]


N = 40_000
HUGE = {
    "nested lists on one line": "- " * N,
    "nested lists": "\n".join("  " * min(i, 500) + f"- {i}" for i in range(2000)),
    "nested quotes": "> " * N + "x",
    "numbers": "1. " * N,
    "open brackets": "[" * N,
    "brackets": "[a](" * N,
    "closed brackets": "[]" * N,
    "images": "![" * N + "](https://x.org/" * N,
    "stars": "*a " * N,
    "stars and lines": "*a _b " * N + "c_ d* " * N,
    "a run of stars": "*" * N + "a" + "*" * N,
    "backticks": " ".join("`" * (i + 1) for i in range(600)),
    "backslashes": "\\" * N,
    "addresses": "https://a.b/" + "c." * N,
    "dots after an address": ("https://a.b/" + "." * 1900 + "x ") * 20,
    "angles": "<" * N + "https://" * N,
    "entities": "&amp;" * N,
    "an unclosed fence": "```\n" + "x\n" * N,
    "fences": "```\n~~~\n" * N,
    "a long fence": "`" * N + " " * N + "`",
    "blank lines in a list": "- a\n" + "\n" * N + "- b\n" + "\n" * N + "c",
    "spaces": "a" + " " * N + "b\n#" + " " * N + "#" + " " * N + "x",
    "tabs": "\t" * N + "- a",
    "dashes": "- - -" * N + "x",
    "a table row": "|" * N + "\n" + "|-" * N + "|\n" + "|a" * N,
    "table rows": "a|b\n-|-\n" + "c|d\n" * 5000,
    "tables that aren't": "a|b\n|-\n" * 5000,
    "headings": "# a #" + "#" * N + " #" * N + "x",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE.keys())
def test_no_text_takes_more_than_its_length(renderer: Page, text: str) -> None:
    html, seconds = renderer.evaluate(RENDER, [text])
    assert seconds < 30  # what is quadratic takes minutes
    deepest = renderer.evaluate(
        """html => { // parsed as it was written
          const root = document.createElement("div");
          const depth = node => 1 + Math.max(0, ...[...node.children].slice(0, 1000).map(depth));
          root.append(document.createRange().createContextualFragment(html));
          return depth(root);
        }""",
        html,
    )
    assert deepest < 100


def test_an_answer_of_4000_tokens_is_shown_whole(open_page: Open) -> None:
    """All of it is one list, which is made again whenever it is painted: the most work that an answer can be."""
    gateway = Gateway(max_tokens=4096, context_length=8192)
    page = open_page(gateway)
    items = [
        (f"{number}.", " **it", "em** ", "with ", "`code`", " and", " more", " text\n") for number in range(1, 501)
    ]
    gateway.answers.put(answered(*(token for item in items for token in item)))
    turn = ask(page, "A long list")
    expect_state(turn, "done")
    expect(turn.locator(".md > ol > li")).to_have_text(["item with code and more text"] * 500)


def test_painting_takes_a_fifth_of_the_time_at_most(renderer: Page) -> None:
    share = renderer.evaluate(
        """async () => {
          let painting = 0;
          const slow = painter(() => { // as a phone with a long answer
            const began = performance.now();
            while (performance.now() < began + 30);
            painting += performance.now() - began;
          });
          const began = performance.now(), pieces = setInterval(slow.soon, 1);
          await new Promise((done) => setTimeout(done, 1500));
          clearInterval(pieces);
          return painting / (performance.now() - began);
        }"""
    )
    assert 0 < share < 0.3
