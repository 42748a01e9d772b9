"""A request's runs where several models have one Ollama: among its model's requests, and among those of all models.

A model's llama-server may die, which tells of that model's requests only; or Ollama itself, which may be the fault of
another model's request. So each request is suspected in two places, and is sent when it has its turn in both.
"""

from service.suspects import Run, Suspects


class Runs:
    """One attempt at a request; see Run. everybody: the suspects of all models, None if there is one model."""

    def __init__(self, own: Suspects, everybody: Suspects | None, fingerprint: str) -> None:
        self._suspects, self._everybody, self._fingerprint = own, everybody, fingerprint
        self._begin()

    def _begin(self) -> None:
        self._own = self._suspects.run(self._fingerprint)
        self._has_own_turn = False
        self._all: Run | None = None

    @property
    def since(self) -> float:
        """Return when the request was sent, or got its turn."""
        return self._own.since

    @property
    def with_engine(self) -> bool:
        """Say whether the request was sent."""
        return self._own.with_engine

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a turn and say whether both have come. Raises Culprit."""
        if not self._has_own_turn:
            if not self._own.wait(timeout):
                return False
            self._has_own_turn = True
            if self._everybody is not None:  # only now, so that no run has to wait for one that waits for it
                self._all = self._everybody.run(self._fingerprint)
        return self._all is None or self._all.wait(timeout)

    def send(self) -> None:
        """Record that the request is being sent."""
        for run in self._both():
            run.send()

    def unsent(self) -> None:
        """Record that the request didn't reach the engine."""
        for run in self._both():
            run.unsent()

    def progress(self) -> None:
        """Record the first piece of the answer."""
        for run in self._both():
            run.progress()

    def died(self, *, again: bool = False, cut: bool = False, whole: bool = False) -> bool:
        """End because the engine died, or wait `again`; say whether this is the first report. Raises Culprit.

        whole: whether Ollama itself died, and not only the model's llama-server.
        """
        if whole and self._all is not None:
            self._acquit(self._own)
            first = self._all.died(cut=cut)
            if again:
                self._begin()
            return first
        if self._all is not None:
            self._acquit(self._all)
        self._all, self._has_own_turn = None, False
        return self._own.died(again=again, cut=cut)

    def _acquit(self, run: Run) -> None:
        run.unsent()
        run.end(answered=False)

    def end(self, *, answered: bool) -> None:
        """End; a whole answer clears the request. A second call does nothing."""
        for run in self._both():
            run.end(answered=answered)

    def _both(self) -> list[Run]:
        return [self._own] if self._all is None else [self._own, self._all]
