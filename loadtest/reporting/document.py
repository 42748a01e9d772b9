"""A report as a list of blocks, and the two forms it takes: a page of HTML and a summary in Markdown."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from loadtest.reporting.statistics import interval_text

Row = Sequence[str]
Cell = Callable[[Any], str]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A block under a heading, if it has a title."""

    kind: ClassVar[str]
    title: str = ""

    def markdown(self) -> str:
        """Return the block with its heading; nothing for one that only the page has."""
        return f"## {self.title}\n\n{self.body()}" if self.title and self.body() else self.body()

    def body(self) -> str:
        """Return the block's Markdown."""
        return ""


@dataclass(frozen=True)
class Table(Section):
    """Rows of text, the first of which is the head.

    numbers: all columns but the first are aligned to the right. folded: a long one, on the page only, under its title.
    """

    kind = "table"
    rows: Sequence[Row]
    numbers: bool = False
    folded: bool = False

    @classmethod
    def columns_of(cls, head: str, things: Mapping[str, Any], figures: Mapping[str, Cell], **more: Any) -> Self:
        """Return a table with a column for each thing and a row for each figure."""
        rows = [[title, *map(figure, things.values())] for title, figure in figures.items()]
        return cls([[head, *things], *rows], **more)

    @classmethod
    def rows_of(cls, things: Iterable[Any], figures: Mapping[str, Cell], **more: Any) -> Self:
        """Return a table with a row for each thing and a column for each figure."""
        return cls([list(figures), *([figure(thing) for figure in figures.values()] for thing in things)], **more)

    def body(self) -> str:
        """Return the table; a cell can't hold a |."""
        if self.folded:
            return ""
        head, *lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in self.rows]
        rule = "|---|" + ("---:|" if self.numbers else "---|") * (len(self.rows[0]) - 1)
        return "\n".join([head, rule, *lines])


@dataclass(frozen=True)
class Code(Section):
    """A command or another text to copy."""

    kind = "code"
    text: str

    def body(self) -> str:
        """Return it in a fence."""
        return f"```\n{self.text}\n```"


@dataclass(frozen=True)
class Plot(Section):
    """An SVG, on the page only. file: the name under which it is also written by itself."""

    kind = "plot"
    svg: str
    file: str = ""


Block = str | Section  # a text is a paragraph


def cell(*path: str, spec: str = "", scale: float = 1, unit: str = "", missing: str = "–") -> Cell:
    """Return what shows the figure at a path of a report's data; a list is a value with its interval."""

    def text(data: Any) -> str:
        for name in path:
            data = (data or {}).get(name)
        if data is None or isinstance(data, str):
            return missing if data is None else data
        if isinstance(data, list):
            return interval_text([scale * each for each in data], spec or ".1f", unit)
        return f"{scale * data:{spec or ('g' if isinstance(data, float) else '')}}{unit}"

    return text


def markdown(blocks: Iterable[Block], title: str = "") -> str:
    """Return the blocks in Markdown."""
    parts = [f"# {title}" if title else "", *(b if isinstance(b, str) else b.markdown() for b in _shown(blocks))]
    return "\n\n".join(filter(None, parts))


def page(blocks: Iterable[Block], title: str) -> str:
    """Return the blocks as a page of HTML that needs no other file."""
    return _templates.get_template("report.html").render(title=title, blocks=_shown(blocks))


def _shown(blocks: Iterable[Block]) -> list[Block]:
    """Return the blocks without tables that have nothing but a head."""
    return [block for block in blocks if not (isinstance(block, Table) and len(block.rows) < 2)]


def _inline(text: str) -> Markup:
    """Return a text with Markdown's bold and code as HTML, and all else escaped."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", bold))  # noqa: S704  escaped above


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_templates.filters["inline"] = _inline
