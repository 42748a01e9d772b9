"""Tables of the pages in docs/: each command rewrites the part between its own two markers."""

from datetime import UTC, datetime

from launcher.console import Problem, say
from loadtest.reporting.document import Table
from loadtest.reporting.folder import ROOT
from service.cpus import available_cpus


def publish(page: str, part: str, table: Table, *, command: str, note: str = "", rewrite: bool) -> None:
    """Print a table with its command and today's date, and if wanted rewrite its part of a page in docs/ with them.

    Raises Problem where the page has no such part.
    """
    today = datetime.now(UTC).date().isoformat()
    made = f"`{command}`, {today}, on {available_cpus()} CPUs. {note}".strip()
    text = f"{made}\n\n{table.body()}"
    say(text)
    if rewrite:
        file = ROOT / "docs" / page
        file.write_text(replaced(file.read_text(), part, text))


def replaced(page: str, part: str, text: str) -> str:
    """Return the page with the text between the markers of `part`. Raises Problem without them."""
    begin, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise Problem(f"the page has no markers of {part}")
    return f"{before}{begin}{text}\n{end}{after}"
