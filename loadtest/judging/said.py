"""What was found of a release and how sure that is, in sentences: for the commit, the tag, and whoever looks."""

from collections import Counter
from collections.abc import Iterator, Mapping

from loadtest.judging.answers import Outcome
from loadtest.judging.judge import Judge
from loadtest.judging.sequential import Sequence, Verdict, at_most
from loadtest.judging.speed import SLOWDOWN, Speed


def sentences(judges: Mapping[str, Judge]) -> Iterator[str]:
    """Yield what is known of a release, a sentence for each question. Judges by the names of their models."""
    for model, judge in judges.items():
        for each in _of(judge):
            yield f"{model}: {each}" if len(judges) > 1 else each


def _of(judge: Judge) -> Iterator[str]:
    if judge.refused:
        yield f"{judge.refused} times a question was refused as others had the slots, and asked again."
    if judge.elsewhere:
        yield f"{judge.elsewhere} answers were another release's, and don't count."
    if not judge.answers:
        return
    yield _failures(judge)
    yield _wrong(judge)
    if not judge.first.live:
        yield "Speed was not judged: no release with such pods, asked the same, has passed before."
        return
    yield _speed("First token", judge.first)
    yield _speed("Each further token", judge.token)


def _failures(judge: Judge) -> str:
    reasons = Counter(each.why for each in judge.answers if each.outcome is Outcome.FAILED)
    why = f" ({', '.join(f'{count} × {reason}' for reason, count in reasons.most_common(3))})" if reasons else ""
    return f"{judge.failures.hits} of {judge.failures.seen} answers failed{why}: {_sure(judge.failures)}."


def _wrong(judge: Judge) -> str:
    where = " where the live release is right" if judge.live else ""
    return f"{judge.wrong.hits} of {judge.wrong.seen} answers were wrong{where}: {_sure(judge.wrong)}."


def _sure(sequence: Sequence) -> str:
    """Say what a share proves, as a clause."""
    question = sequence.question
    if sequence.verdict is Verdict.GOOD:
        return f"that rules out {_percent(question.bad)} (error rate {_percent(question.missed)})"
    if sequence.verdict is Verdict.BAD:
        return f"a good release has {_percent(question.good)} (error rate {_percent(question.false_alarm)})"
    return f"up to {_percent(at_most(sequence.hits, sequence.seen))} can't be ruled out"


def _speed(what: str, speed: Speed) -> str:
    if not speed.ratios:
        slots = ", ".join(map(str, sorted(speed.elsewhere)))
        why = f"the live release isn't known with {slots} busy slots" if slots else "no answer tells it"
        return f"{what}: not judged, as {why}."
    found = f"{what}: {speed.ratio:.2f} × the live release's time with as many busy slots ({len(speed.ratios)} answers)"
    return f"{found}: {_sure_of(speed)}."


def _sure_of(speed: Speed) -> str:
    question, findable = speed.sequence.question, f"{max(SLOWDOWN, speed.limit**2):.2g} ×"
    if speed.sequence.verdict is Verdict.GOOD:
        return f"that rules out {findable} (error rate {_percent(question.missed)})"
    if speed.sequence.verdict is Verdict.BAD:
        return f"a good release isn't that slow (error rate {_percent(question.false_alarm)})"
    return f"{findable} can't be ruled out"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
