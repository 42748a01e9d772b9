"""LiteLLM's library, by OpenAI's chat completions and by Ollama's own API."""

import json
import os
from typing import Any

from city import City
from features import CITY_PARAMETER, MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks GitHub for prices while it is imported

import litellm

ASK: Any = [{"role": "user", "content": QUESTION}]
FUNCTION: Any = {"name": "weather", "description": weather.__doc__, "parameters": CITY_PARAMETER}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]


class _Chat:
    """A way that LiteLLM asks. _where: the model and its address; _embedder: the model's name where it embeds."""

    _where: Any
    _embedder: str

    def plain(self) -> Any:
        got: Any = litellm.completion(messages=ASK, **self._where)
        tokens = [got.usage.prompt_tokens, got.usage.completion_tokens]
        return {"text": got.choices[0].message.content, "finish": got.choices[0].finish_reason, "tokens": tokens}

    def streamed(self) -> Any:
        options = {"include_usage": True}
        chunks: Any = list(litellm.completion(messages=ASK, stream=True, stream_options=options, **self._where))
        choices = [choice for chunk in chunks for choice in chunk.choices]
        [finish] = {choice.finish_reason for choice in choices if choice.finish_reason}
        usage = chunks[-1].usage
        pieces = [choice.delta.content for choice in choices if choice.delta.content]
        return {"pieces": pieces, "finish": finish, "tokens": [usage.prompt_tokens, usage.completion_tokens]}

    def tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        got: Any = litellm.completion(messages=messages, tools=TOOLS, **self._where)
        choice = got.choices[0]
        [called] = choice.message.tool_calls
        arguments = json.loads(called.function.arguments)
        messages += [choice.message, {"role": "tool", "tool_call_id": called.id, "content": weather(**arguments)}]
        last: Any = litellm.completion(messages=messages, tools=TOOLS, **self._where)
        text = last.choices[0].message.content
        return {"call": call(called.function.name, arguments, called.id), "finish": choice.finish_reason, "text": text}

    def streamed_tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        chunks: Any = litellm.completion(messages=messages, tools=TOOLS, stream=True, **self._where)
        got: Any = litellm.stream_chunk_builder(list(chunks), messages)
        [called] = got.choices[0].message.tool_calls
        arguments = json.loads(called.function.arguments)
        return {"call": call(called.function.name, arguments, called.id), "finish": got.choices[0].finish_reason}

    def structured(self) -> Any:
        got: Any = litellm.completion(messages=ASK, response_format=City, **self._where)
        return City.model_validate_json(got.choices[0].message.content).model_dump(mode="json")

    def json_mode(self) -> Any:
        got: Any = litellm.completion(messages=ASK, response_format={"type": "json_object"}, **self._where)
        return json.loads(got.choices[0].message.content)

    def images(self) -> Any:
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        messages: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]}]
        got: Any = litellm.completion(messages=messages, **self._where)
        return got.choices[0].message.content

    def embeddings(self) -> Any:
        got: Any = litellm.embedding(input=["one", "two"], **{**self._where, "model": self._embedder})
        return [each["embedding"] for each in got.data]

    def broken(self) -> Any:
        chunks: Any = litellm.completion(messages=ASK, stream=True, **self._where)
        return pieces_until_it_broke(c.choices[0].delta.content for c in chunks if c.choices[0].delta.content)


class OpenAI(_Chat):
    """`openai/…`."""

    def __init__(self, url: str) -> None:
        self._embedder = f"openai/{MODEL}"
        self._where = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}

    def forced_tool(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        got: Any = litellm.completion(messages=messages, tools=TOOLS, tool_choice="required", **self._where)
        [called] = got.choices[0].message.tool_calls
        arguments = json.loads(called.function.arguments)
        return {"call": call(called.function.name, arguments, called.id), "finish": got.choices[0].finish_reason}

    def refused(self) -> Any:
        got: Any = litellm.completion(messages=ASK, **self._where)
        return got.choices[0].message.content


class Ollama(_Chat):
    """`ollama_chat/…`."""

    def __init__(self, url: str) -> None:
        self._embedder = f"ollama/{MODEL}"
        self._where = {"model": f"ollama_chat/{MODEL}", "api_base": url}


if __name__ == "__main__":
    serve(OpenAI, Ollama)
