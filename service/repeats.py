"""Answers that repeat one token without end: Ollama ends them without a word (Completion in llm/llama_server.go)."""

from typing import Any

LIMIT = 30  # pieces like the one before, in a row; with one more, no other piece comes, not even the last with `done`


class Repeats:
    """Counts an answer's pieces, and how many in a row are the same."""

    def __init__(self) -> None:
        self._last, self._in_row, self._pieces = "", 0, 0

    def see(self, piece: dict[str, Any]) -> None:
        """Take note of a piece."""
        text = piece["message"]["content"].strip()
        self._in_row = self._in_row + 1 if text == self._last else 0
        self._last, self._pieces = text, self._pieces + 1

    def end(self) -> dict[str, Any] | None:
        """Return the last piece for an answer that came to an end without one, if it was broken off for its repeats."""
        if self._in_row < LIMIT:
            return None
        message = {"role": "assistant", "content": ""}
        return {"message": message, "done": True, "done_reason": "length", "eval_count": self._pieces}
