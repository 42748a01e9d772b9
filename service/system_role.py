"""Models whose template has no place for a system message: what it says goes before the first thing the user says."""

import re
from typing import Any

# Templates are Go's (`.System`, or `.Role` of every message) or Jinja's (`message['role']`).
SAYS_ROLE = re.compile(r"\.System\b|\.Role\b|\brole\b|\bsystem\b", re.IGNORECASE)
REFUSES = re.compile(r"system role (?:is )?not supported", re.IGNORECASE)  # as Gemma 2's raises it


def has_system_role(template: str) -> bool:
    """Say whether a model's template writes what a system message says; one that isn't known does."""
    return not template.strip() or bool(SAYS_ROLE.search(template) and not REFUSES.search(template))


def without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with the system's texts before the first user's, where Ollama would leave them out."""
    system = [message["content"] for message in messages if message["role"] == "system" and message["content"]]
    others = [message for message in messages if message["role"] != "system"]
    for index, message in enumerate(others):
        if message["role"] == "user":
            others[index] = {**message, "content": "\n\n".join([*system, message["content"]])}
            return others
    return [{"role": "user", "content": "\n\n".join(system)}, *others] if system else others
