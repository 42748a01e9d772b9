"""Anthropic's own library."""

from typing import Any

import anthropic
from city import City
from features import CITY_PARAMETER, MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather

ASK: Any = [{"role": "user", "content": QUESTION}]
WEATHER: Any = {"name": "weather", "description": weather.__doc__, "input_schema": CITY_PARAMETER}


def _call(message: Any) -> Any:
    [block] = [block for block in message.content if block.type == "tool_use"]
    return call(block.name, block.input, block.id)


def _tokens(message: Any) -> list[int]:
    return [message.usage.input_tokens, message.usage.output_tokens]


class Messages:
    """`/v1/messages`."""

    def __init__(self, url: str) -> None:
        self._client = anthropic.Anthropic(base_url=url, api_key="none")
        self._messages = self._client.messages

    def plain(self) -> Any:
        got = self._messages.create(model=MODEL, max_tokens=99, messages=ASK)
        return {"text": got.content[0].text, "finish": got.stop_reason, "tokens": _tokens(got)}

    def streamed(self) -> Any:
        with self._messages.stream(model=MODEL, max_tokens=99, messages=ASK) as stream:
            pieces = list(stream.text_stream)
            got = stream.get_final_message()
        return {"pieces": pieces, "finish": got.stop_reason, "tokens": _tokens(got)}

    def tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        got = self._messages.create(model=MODEL, max_tokens=99, messages=messages, tools=[WEATHER])
        called = _call(got)
        result = {"type": "tool_result", "tool_use_id": called["id"], "content": weather(**called["arguments"])}
        messages += [{"role": "assistant", "content": got.content}, {"role": "user", "content": [result]}]
        text = self._messages.create(model=MODEL, max_tokens=99, messages=messages, tools=[WEATHER]).content[0].text
        return {"call": called, "finish": got.stop_reason, "text": text}

    def streamed_tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        with self._messages.stream(model=MODEL, max_tokens=99, messages=messages, tools=[WEATHER]) as stream:
            got = stream.get_final_message()
        return {"call": _call(got), "finish": got.stop_reason}

    def forced_tool(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        chosen: Any = {"type": "tool", "name": "weather"}
        got = self._messages.create(model=MODEL, max_tokens=99, messages=messages, tools=[WEATHER], tool_choice=chosen)
        return {"call": _call(got), "finish": got.stop_reason}

    def structured(self) -> Any:
        got = self._messages.parse(model=MODEL, max_tokens=99, messages=ASK, output_format=City)
        return got.parsed_output.model_dump(mode="json")

    def images(self) -> Any:
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        content = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
        messages: Any = [{"role": "user", "content": content}]
        return self._messages.create(model=MODEL, max_tokens=99, messages=messages).content[0].text

    def models(self) -> Any:
        return [model.id for model in self._client.models.list()]

    def refused(self) -> Any:
        return self._messages.create(model=MODEL, max_tokens=99, messages=ASK).content[0].text

    def broken(self) -> Any:
        with self._messages.stream(model=MODEL, max_tokens=99, messages=ASK) as stream:
            return pieces_until_it_broke(stream.text_stream)


if __name__ == "__main__":
    serve(Messages)
