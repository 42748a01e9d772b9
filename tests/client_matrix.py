"""`python -m tests.client_matrix`: writes into docs/clients.md which client can do what with Sluice.

tests/test_clients.py runs each client for each feature that it has here, and fails where a client has another one.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "clients"
PAGE = Path(__file__).parent.parent / "docs" / "clients.md"
BEGIN, END = "<!-- clients -->", "<!-- end of clients -->"
# By the names of the programs' methods.
FEATURES = {
    "plain": "whole",
    "streamed": "streamed",
    "tools": "tools",
    "streamed_tools": "tools, streamed",
    "forced_tool": "a tool that must be called",
    "structured": "JSON schema",
    "structured_by_tool": "JSON schema by a tool",
    "json_mode": "JSON mode",
    "images": "images",
    "embeddings": "embeddings",
    "models": "models",
    "refused": "waits for `Retry-After`",
    "broken": "says that a stream broke off",
}


@dataclass(frozen=True)
class Client:
    """A client of one API. stop, called: what it gives as the reason of an answer's end, and of a call's.

    told_to_wait: seconds in `Retry-After`, more than it waits by itself before it tries again.
    """

    package: str
    program: str
    kind: str  # the class in the program
    speaks: str
    without: frozenset[str]
    stop: str | None = "stop"
    called: str | None = "tool_calls"
    ids: bool = True  # calls have ids that the server gave them, by which a tool's result says whose it is
    told_to_wait: int = 1

    @property
    def features(self) -> list[str]:
        """Return the names of the features that it has."""
        return [feature for feature in FEATURES if feature not in self.without]

    @property
    def version(self) -> str:
        """Return the version that is tried; nothing where nothing is installed."""
        if self.program.endswith(".mjs"):
            return str(json.loads((PROGRAMS / "package.json").read_text())["dependencies"][self.package])
        return versions(self.environment).get(self.package, "")

    @property
    def environment(self) -> str:
        """Return the group of pyproject.toml that the program needs; nothing where it needs none."""
        return next((group for group in dependency_groups() if self.package in versions(group)), "")

    def __str__(self) -> str:
        return f"{self.program}:{self.kind}"


def dependency_groups() -> dict[str, list[str]]:
    """Return what the programs in Python need, by the environment that has it."""
    groups: dict[str, list[str]] = tomllib.loads((PROGRAMS / "pyproject.toml").read_text())["dependency-groups"]
    return groups


def versions(group: str) -> dict[str, str]:
    """Return the versions of a group's packages."""
    pins = (re.fullmatch(r"([\w-]+)(?:\[\w+\])?==(.*)", pin) for pin in dependency_groups().get(group, ()))
    return {pin[1]: pin[2] for pin in pins if pin}


def client(program: str, kind: str, package: str, speaks: str, without: str = "", **more: str | int | None) -> Client:
    """Return a client; without: the features it doesn't have, with spaces between them."""
    return Client(package, program, kind, speaks, frozenset(without.split()), **more)  # type: ignore[arg-type]


# The APIs; what of FEATURES they or their clients don't have; how these name an answer's end.
CHAT, RESPONSES, COMPLETIONS = "`/v1/chat/completions`", "`/v1/responses`", "`/v1/completions`"
MESSAGES, OLLAMA, GENERATE = "`/v1/messages`", "`/api/chat`", "`/api/generate`"
RESPONSES_LACK = "structured_by_tool embeddings models"
OLLAMA_LACKS = "forced_tool structured_by_tool refused"
COMPLETIONS_LACK = "tools streamed_tools forced_tool structured structured_by_tool json_mode images embeddings models"
GENERATE_LACKS = "tools streamed_tools forced_tool structured_by_tool models refused"
ANTHROPIC_LACKS = "structured_by_tool json_mode embeddings"
PYDANTIC_AI_LACKS = "forced_tool json_mode embeddings models"
INSTRUCTOR_LACKS = "plain streamed tools streamed_tools forced_tool images embeddings models refused broken"
LLM_LACKS = "forced_tool structured_by_tool json_mode embeddings models"
OPEN_WEBUI_LACKS = "forced_tool structured_by_tool json_mode refused"
VERCEL_LACKS = "structured_by_tool models"
VERCEL: Any = {"called": "tool-calls", "told_to_wait": 3}
COMPLETED: Any = {"stop": "completed", "called": "completed"}
AS_OLLAMA: Any = {"called": "stop", "ids": False}
AS_ANTHROPIC: Any = {"stop": "end_turn", "called": "tool_use"}
CLIENTS = (
    client("python_openai.py", "Chat", "openai", CHAT, "structured_by_tool"),
    client("python_openai.py", "Responses", "openai", RESPONSES, RESPONSES_LACK, **COMPLETED),
    client("python_openai.py", "Completions", "openai", COMPLETIONS, COMPLETIONS_LACK),
    client("python_ollama.py", "Chat", "ollama", OLLAMA, OLLAMA_LACKS, **AS_OLLAMA),
    client("python_ollama.py", "Generate", "ollama", GENERATE, GENERATE_LACKS, **AS_OLLAMA),
    client("python_anthropic.py", "Messages", "anthropic", MESSAGES, ANTHROPIC_LACKS, **AS_ANTHROPIC),
    client("python_langchain.py", "OpenAI", "langchain-openai", CHAT, "models"),
    client("python_langchain.py", "Responses", "langchain-openai", RESPONSES, "models", **COMPLETED),
    client("python_langchain.py", "Ollama", "langchain-ollama", OLLAMA, "forced_tool models refused", **AS_OLLAMA),
    client("python_llama_index.py", "OpenAI", "llama-index-llms-openai-like", CHAT, "json_mode models", told_to_wait=3),
    client("python_pydantic_ai.py", "Chat", "pydantic-ai-slim", CHAT, PYDANTIC_AI_LACKS, called="tool_call"),
    client("python_pydantic_ai.py", "Responses", "pydantic-ai-slim", RESPONSES, PYDANTIC_AI_LACKS, called="stop"),
    client("python_instructor.py", "Chat", "instructor", CHAT, INSTRUCTOR_LACKS),
    client("python_llm.py", "Chat", "llm", CHAT, LLM_LACKS, stop=None, called=None),
    client("python_litellm.py", "OpenAI", "litellm", CHAT, "structured_by_tool models"),
    client("python_litellm.py", "Ollama", "litellm", OLLAMA, "forced_tool structured_by_tool models refused"),
    client("open_webui.py", "OpenAI", "Open WebUI", CHAT, f"{OPEN_WEBUI_LACKS} structured"),
    client("open_webui.py", "Ollama", "Open WebUI", OLLAMA, OPEN_WEBUI_LACKS, **AS_OLLAMA),
    client("node_openai.mjs", "Chat", "openai", CHAT, "structured_by_tool"),
    client("node_openai.mjs", "Responses", "openai", RESPONSES, RESPONSES_LACK, **COMPLETED),
    client("node_ai.mjs", "OpenAI", "@ai-sdk/openai", RESPONSES, VERCEL_LACKS, **VERCEL),
    client("node_ai.mjs", "Compatible", "@ai-sdk/openai-compatible", CHAT, VERCEL_LACKS, **VERCEL),
    client("node_ollama.mjs", "Chat", "ollama", OLLAMA, OLLAMA_LACKS, **AS_OLLAMA),
    client("node_ollama.mjs", "Generate", "ollama", GENERATE, GENERATE_LACKS, **AS_OLLAMA),
    client("node_anthropic.mjs", "Messages", "@anthropic-ai/sdk", MESSAGES, ANTHROPIC_LACKS, **AS_ANTHROPIC),
)


def table() -> str:
    """Return the matrix in Markdown."""
    head = ["client", "version", "API", *FEATURES.values()]
    lines = [head, ["---"] * len(head)]
    for each in CLIENTS:
        has = ["yes" if feature in each.features else "" for feature in FEATURES]
        lines.append([_language(each), each.version, each.speaks, *has])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _language(each: Client) -> str:
    language = {"python": "Python", "node": "JavaScript"}.get(each.program.partition("_")[0], "")
    return f"{each.package}, {language}" if language else each.package


def written(page: str) -> str:
    """Return the page with the table of today in it."""
    return re.sub(f"(?s){BEGIN}.*{END}", f"{BEGIN}\n{table()}{END}", page)


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
