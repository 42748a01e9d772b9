"""docs/reliability.md: each command rewrites the part between its own two markers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from launcher.console import Problem, say
from loadtest.document import markdown_table
from service.settings import available_cpus

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"


def publish(
    part: str, *, command: str, rows: Sequence[Sequence[str]], note: str = "", page: Path | None = PAGE
) -> None:
    """Print a table, and put it in its part of the page, with its command and today's date; page: None to print only.

    Raises Problem where the page has no such part.
    """
    today = datetime.now(UTC).date().isoformat()
    made = f"`{command}`, {today}, on {available_cpus()} CPUs. {note}".strip()
    text = f"{made}\n\n{markdown_table(rows)}"
    say(text)
    if page:
        page.write_text(replaced(page.read_text(), part, text))


def replaced(page: str, part: str, text: str) -> str:
    """Return the page with the text between the markers of `part`. Raises Problem without them."""
    begin, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise Problem(f"docs/reliability.md has no markers of {part}")
    return f"{before}{begin}{text}\n{end}{after}"
