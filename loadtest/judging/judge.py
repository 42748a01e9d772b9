"""Whether a release is good, by its answers so far: four questions for each of its models, and what they say together.

Error rates of all together: at most FALSE_ALARM of good releases are called bad; of releases that are as bad as a
question says, at most MISSED are called good.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from loadtest.judging.answers import Answer, Outcome
from loadtest.judging.record import Record, Records, new_record, questions_hash
from loadtest.judging.sequential import Question, Sequence, Verdict
from loadtest.judging.speed import Speed

FALSE_ALARM, MISSED = 0.05, 0.02
TESTS = 4  # of a model
FEWEST = 8  # answers, without which nothing is said; as many as the smoke asked when it asked a fixed number
RECORDED = 20  # answers whose times count, before a release passes: the next one is compared with them

# Shares of the answers of a good release, and of one that must be found. 0.5 %: a connection may break at any time.
FAILURES = Question(good=0.005, bad=0.05, false_alarm=FALSE_ALARM / TESTS, missed=MISSED)
# Wrong where the live release was right. Without one: a small model may not know three answers in ten, and one with a
# wrong template knows hardly any.
WRONG_NOW = replace(FAILURES, good=0.05, bad=0.3)
WRONG = replace(FAILURES, good=0.3, bad=0.7)
# Medians above the limit: see speed.py.
SLOWER = replace(FAILURES, good=0.35, bad=0.65)


@dataclass
class Judge:
    """What is known of one of a release's models.

    shape: of its pods. live: the record of the release that passed before it, if that was asked the same. models: how
    many the release has, which share the false alarms. releases: of its front and its pods, which answers must be of to
    count; () if all count.
    """

    shape: str
    live: Record | None = None
    models: int = 1
    releases: tuple[str, ...] = ()
    answers: list[Answer] = field(default_factory=list)
    timed: list[Answer] = field(default_factory=list)  # those after the pods have settled
    refused: int = 0  # as others had the slots
    elsewhere: int = 0  # answers of other releases, which don't count

    def __post_init__(self) -> None:
        first, token = self.live.times_of(self.shape) if self.live else ({}, {})
        self.failures = Sequence(self._question(FAILURES))
        self.wrong = Sequence(self._question(WRONG_NOW if self.live else WRONG))
        self.first = Speed(self._question(SLOWER), first)
        self.token = Speed(self._question(SLOWER), token)

    def _question(self, question: Question) -> Question:
        return replace(question, false_alarm=question.false_alarm / self.models)

    def observe(self, answer: Answer, *, settled: bool) -> None:
        """Take in an answer. settled: its times count."""
        if answer.outcome is Outcome.BUSY:
            self.refused += 1
            return
        if not self._gave(answer):
            self.elsewhere += 1
            return
        self.answers.append(answer)
        self.failures.observe(answer.outcome is Outcome.FAILED)
        if answer.outcome is Outcome.FAILED:
            return
        if self.live is None or answer.question in self.live.right:
            self.wrong.observe(answer.outcome is Outcome.WRONG)
        if settled:
            self.timed.append(answer)
            self.first.observe(answer.busy_slots, answer.first)
            self.token.observe(answer.busy_slots, answer.token)

    def _gave(self, answer: Answer) -> bool:
        """Say whether an answer is the release's. So is one that doesn't say whose it is: that may be its fault."""
        return not self.releases or set(answer.releases) <= set(self.releases)

    @property
    def verdict(self) -> Verdict:
        """Return what all questions say together: OPEN as long as one has no verdict that it may still get."""
        speeds = (self.first, self.token)
        verdicts = [each.verdict for each in (self.failures, self.wrong, *(speed.sequence for speed in speeds))]
        if Verdict.BAD in verdicts:
            return Verdict.BAD
        needed = [self.failures, self.wrong, *(speed.sequence for speed in speeds if not speed.incomparable)]
        proven = all(each.verdict is Verdict.GOOD for each in needed)
        return Verdict.GOOD if proven and len(self.timed) >= RECORDED else Verdict.OPEN

    @property
    def enough(self) -> bool:
        """Say whether there are enough answers to say something when the time is over."""
        return len(self.answers) >= FEWEST

    def record(self) -> Record:
        """Return what the next release is compared with."""
        return new_record(self.shape, self.answers, self.timed, self.live)


def new_judges(shapes: Mapping[str, str], live: Records, releases: Mapping[str, str]) -> dict[str, Judge]:
    """Return a judge for each model of a release.

    shapes: of the models' pods. live: the records of the one before. releases: of the models' pods, and by "" of the
    fronts; empty if all answers count.
    """
    same = {model: record for model, record in live.items() if record.questions == questions_hash()}
    own = {model: (releases[""], releases[model]) for model in shapes} if releases else {}
    return {model: Judge(shape, same.get(model), len(shapes), own.get(model, ())) for model, shape in shapes.items()}


def together(judges: Iterable[Judge]) -> Verdict:
    """Return the verdict of a release: bad if one of its models is, good if all are."""
    verdicts = {each.verdict for each in judges}
    if Verdict.BAD in verdicts:
        return Verdict.BAD
    return Verdict.GOOD if verdicts == {Verdict.GOOD} else Verdict.OPEN
