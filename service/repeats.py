"""Answers that repeat one token endlessly: Ollama ends them silently (Completion in llm/llama_server.go)."""

from typing import Any

LIMIT = 30  # consecutive repeats; after one more, Ollama sends nothing, not even the last piece with `done`


class Repeats:
    """Counts an answer's pieces, and how many in a row are the same."""

    def __init__(self) -> None:
        self._last, self._in_row, self._pieces = "", 0, 0

    def see(self, piece: dict[str, Any]) -> None:
        """Count a piece."""
        text = (piece["message"]["content"] or piece["message"].get("thinking") or "").strip()
        self._in_row = self._in_row + 1 if text == self._last else 0
        self._last, self._pieces = text, self._pieces + 1

    def end(self) -> dict[str, Any] | None:
        """Return a last piece for an answer that ended without one, if it ended because of its repeats."""
        if self._in_row < LIMIT:
            return None
        message = {"role": "assistant", "content": ""}
        return {"message": message, "done": True, "done_reason": "length", "eval_count": self._pieces}
