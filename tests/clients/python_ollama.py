"""Ollama's own library."""

import json
from collections.abc import Iterator
from typing import Any

import ollama
from city import City
from features import MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather

ASK = [{"role": "user", "content": QUESTION}]


class Chat:
    """`/api/chat`, `/api/embed`, `/api/tags`, `/api/show` and `/api/ps`."""

    def __init__(self, url: str) -> None:
        self._client: Any = ollama.Client(host=url)

    def plain(self) -> Any:
        got = self._client.chat(MODEL, ASK)
        return {
            "text": got.message.content,
            "finish": got.done_reason,
            "tokens": [got.prompt_eval_count, got.eval_count],
        }

    def streamed(self) -> Any:
        *chunks, last = self._client.chat(MODEL, ASK, stream=True)
        pieces = [chunk.message.content for chunk in chunks]
        return {"pieces": pieces, "finish": last.done_reason, "tokens": [last.prompt_eval_count, last.eval_count]}

    def tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        got = self._client.chat(MODEL, messages, tools=[weather])
        called = got.message.tool_calls[0].function
        result = weather(**called.arguments)
        messages += [got.message, {"role": "tool", "tool_name": called.name, "content": result}]
        text = self._client.chat(MODEL, messages, tools=[weather]).message.content
        return {"call": call(called.name, dict(called.arguments)), "finish": got.done_reason, "text": text}

    def streamed_tools(self) -> Any:
        messages = [{"role": "user", "content": WARMTH}]
        *chunks, last = self._client.chat(MODEL, messages, tools=[weather], stream=True)
        [called] = [each.function for chunk in chunks for each in chunk.message.tool_calls or ()]
        return {"call": call(called.name, dict(called.arguments)), "finish": last.done_reason}

    def structured(self) -> Any:
        got = self._client.chat(MODEL, ASK, format=City.model_json_schema())
        return City.model_validate_json(got.message.content).model_dump(mode="json")

    def json_mode(self) -> Any:
        return json.loads(self._client.chat(MODEL, ASK, format="json").message.content)

    def images(self) -> Any:
        return self._client.chat(MODEL, [{**ASK[0], "images": [PNG]}]).message.content

    def embeddings(self) -> Any:
        return [list(vector) for vector in self._client.embed(MODEL, ["one", "two"]).embeddings]

    def models(self) -> Any:
        [loaded] = self._client.ps().models
        [stored] = self._client.list().models
        assert "completion" in self._client.show(stored.model).capabilities
        assert loaded.model == stored.model
        return [stored.model]

    def broken(self) -> Any:
        return pieces_until_it_broke(chunk.message.content for chunk in self._client.chat(MODEL, ASK, stream=True))


class Generate:
    """`/api/generate` and `/api/embeddings`."""

    def __init__(self, url: str) -> None:
        self._client: Any = ollama.Client(host=url)

    def plain(self) -> Any:
        got = self._client.generate(MODEL, QUESTION)
        return {"text": got.response, "finish": got.done_reason, "tokens": [got.prompt_eval_count, got.eval_count]}

    def streamed(self) -> Any:
        *chunks, last = self._client.generate(MODEL, QUESTION, stream=True)
        pieces = [chunk.response for chunk in chunks]
        return {"pieces": pieces, "finish": last.done_reason, "tokens": [last.prompt_eval_count, last.eval_count]}

    def structured(self) -> Any:
        got = self._client.generate(MODEL, QUESTION, format=City.model_json_schema())
        return City.model_validate_json(got.response).model_dump(mode="json")

    def json_mode(self) -> Any:
        return json.loads(self._client.generate(MODEL, QUESTION, format="json").response)

    def images(self) -> Any:
        return self._client.generate(MODEL, QUESTION, images=[PNG]).response

    def embeddings(self) -> Any:
        return [list(self._client.embeddings(MODEL, text).embedding) for text in ("one", "two")]

    def broken(self) -> Any:
        return pieces_until_it_broke(self._pieces())

    def _pieces(self) -> Iterator[str]:
        for chunk in self._client.generate(MODEL, QUESTION, stream=True):
            yield chunk.response


if __name__ == "__main__":
    serve(Chat, Generate)
