"""instructor, in its default mode and in that of JSON schemas."""

from typing import Any

import instructor
from city import City
from features import MODEL, QUESTION, serve
from openai import OpenAI

ASK: Any = [{"role": "user", "content": QUESTION}]


class Chat:
    """`from_openai`."""

    def __init__(self, url: str) -> None:
        self._openai = OpenAI(base_url=f"{url}/v1", api_key="none")

    def _ask(self, mode: instructor.Mode) -> Any:
        client = instructor.from_openai(self._openai, mode=mode)
        got = client.chat.completions.create(model=MODEL, messages=ASK, response_model=City)
        return got.model_dump(mode="json")

    def structured(self) -> Any:
        return self._ask(instructor.Mode.JSON_SCHEMA)

    def structured_by_tool(self) -> Any:
        return self._ask(instructor.Mode.TOOLS)

    def json_mode(self) -> Any:
        return self._ask(instructor.Mode.JSON)


if __name__ == "__main__":
    serve(Chat)
