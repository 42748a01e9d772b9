"""Push a release that was rendered from a commit of main to its stage's branch."""

from delivery.branch import MAIN, REVERTS, SOURCE, Branch, Refused


def publish(branch: Branch, *, folder: str, source: str, main: str, reverts: str = "") -> str | None:
    """Make the manifests of the tree `folder` what the stage runs, and return the commit; None if it runs them already.

    source: the commit of main they were rendered from. main: the commit of main whose workflow does this; one that is
    older than what the stage runs is refused. reverts: the commit of the branch that this takes back, if any.
    """
    digests = branch.digests(folder)
    about = f"image {digests.image}\nweights {digests.weights_text}"

    def change(tip: str | None) -> str | None:
        deployed = branch.release(tip) if tip else None
        if deployed and not branch.is_ancestor(deployed.main, main):
            raise Refused(
                f"{main[:12]} doesn't descend from {deployed.main[:12]}, which released what {branch.stage} runs: it "
                "is older, or main was rewritten"
            )
        return branch.commit(tip, folder, message(branch.stage, about, source=source, main=main, reverts=reverts))

    return branch.update(change)


def message(stage: str, about: str, *, source: str, main: str, reverts: str = "") -> str:
    """Return the commit message of a release."""
    subject = f"{stage}: {'back to ' * bool(reverts)}{source[:12]}"
    trailers = {SOURCE: source, MAIN: main, **({REVERTS: reverts} if reverts else {})}
    return f"{subject}\n\n{about}\n\n" + "".join(f"{name}: {commit}\n" for name, commit in trailers.items())
