"""What the pages of all reports share: a page of HTML that needs nothing else, and tables."""

from collections.abc import Sequence
from html import escape
from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$name</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: $width; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse }
th, td { padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top; text-align: left }
svg { width: 100%; height: auto; font-family: system-ui, sans-serif }
$style</style>
<h1>$name</h1>
$body
</html>
""")


def document(name: str, body: Sequence[str], *, width: str, style: str = "") -> str:
    """Return the page: a title, and parts of HTML one below the other. width: of the text; style: more rules of CSS."""
    return PAGE.substitute(name=escape(name), body="\n".join(part for part in body if part), width=width, style=style)


def section(title: str, content: str) -> str:
    """Return a part with a heading."""
    return f"<h2>{escape(title)}</h2>\n{content}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of text, the first row of which is its head."""
    lines = [
        "<tr>" + "".join(f"<{'td' if number else 'th'}>{escape(cell)}" for cell in row)
        for number, row in enumerate(rows)
    ]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def markdown_table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Return the same table in Markdown. numbers: all columns but the first are flush right."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    rule = "|---|" + ("---:|" if numbers else "---|") * (len(rows[0]) - 1)
    return "\n".join([lines[0], rule, *lines[1:]])
