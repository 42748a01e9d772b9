"""What the grammars of a request may cost the engine, and reading its patterns may cost here."""

from service.patterns import BadPattern, Pattern, safe_pattern

MAX_COST = 4000  # rules of the grammars, with every repetition unrolled: more take llama-server seconds per token
MAX_PATTERNS = 5000  # characters of different patterns: some 10 µs each


class Budget:
    """The budget of one request, which all of its schemas share: a grammar may consist of many of them.

    cost: of the grammars, in rules.
    """

    def __init__(self, cost: int = MAX_COST) -> None:
        self._left, self._unread = cost, MAX_PATTERNS
        self._patterns: dict[str, Pattern | None] = {}

    def has(self, cost: int) -> bool:
        """Say whether a grammar may still grow by so many rules."""
        return cost <= self._left

    def spend(self, cost: int) -> bool:
        """Count the growth of a grammar; False, without counting it, if it would be too large."""
        if not self.has(cost):
            return False
        self._left -= cost
        return True

    def pattern(self, text: str) -> Pattern | None:
        """Return a pattern in the engine's form; None if a grammar can't enforce it, or no budget is left for it."""
        if text not in self._patterns:
            if len(text) > self._unread or not self.has(1):
                return None
            self._unread -= len(text)
            try:
                self._patterns[text] = safe_pattern(text)
            except BadPattern:
                self._patterns[text] = None
        return self._patterns[text]
