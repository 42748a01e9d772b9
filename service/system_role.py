"""Models whose template has no system message: its text goes before the first message of the user."""

import re
from typing import Any

# Templates are Go's (`.System`, or `.Role` of every message) or Jinja's (`message['role']`).
SAYS_ROLE = re.compile(r"\.System\b|\.Role\b|\brole\b|\bsystem\b", re.IGNORECASE)
REFUSES = re.compile(r"system role (?:is )?not supported", re.IGNORECASE)  # raised by Gemma 2's


def has_system_role(template: str) -> bool:
    """Say whether a model's template has system messages; an unknown template counts as having them."""
    return not template.strip() or bool(SAYS_ROLE.search(template) and not REFUSES.search(template))


def without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with the system's texts before the user's first one; Ollama would drop them."""
    system = [message["content"] for message in messages if message["role"] == "system" and message["content"]]
    others = [message for message in messages if message["role"] != "system"]
    for index, message in enumerate(others):
        if message["role"] == "user":
            others[index] = {**message, "content": "\n\n".join([*system, message["content"]])}
            return others
    return [{"role": "user", "content": "\n\n".join(system)}, *others] if system else others
