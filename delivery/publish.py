"""Push a release that was rendered from a commit of main to the branch, without a pull request."""

from collections.abc import Mapping

from delivery.branch import SOURCE, Branch


def publish(branch: Branch, *, stage: str, files: Mapping[str, str], source: str, about: str) -> str | None:
    """Make `files` (name → YAML) what `stage` runs, and return the commit; None if it runs exactly these already.

    source: the commit of main they were rendered from. about: text for the commit message. Refuses a source that is
    older than what the stage runs.
    """
    folder = branch.store(files)

    def change(tip: str | None) -> str | None:
        branch.check_order(branch.release(tip, stage), stage, source)
        return branch.commit(tip, stage, folder, message(stage, source, about))

    return branch.update(change)


def message(stage: str, source: str, about: str) -> str:
    """Return the commit message of a release."""
    return f"{stage}: {source[:12]}\n\n{about}\n\n{SOURCE}: {source}\n"
