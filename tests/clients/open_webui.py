"""Open WebUI's calls, in the order and with the fields in which its backend sends them; it is no library to call.

Taken from its routers/ollama.py, routers/openai.py and utils/payload.py: it adds `:latest` to a model's name, sends
what its settings have as `options`, and asks for titles with 1,000 tokens, as `num_predict` beside the options.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.request import Request, urlopen

from city import City
from features import CITY_PARAMETER, MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather

ASK = [{"role": "user", "content": QUESTION}]
FUNCTION = {"name": "weather", "description": weather.__doc__, "parameters": CITY_PARAMETER}
TOOLS = [{"type": "function", "function": FUNCTION}]
HEADERS = {
    "Content-Type": "application/json",
    "Authorization": "Bearer none",
    "X-OpenWebUI-User-Name": "Ada",
    "X-OpenWebUI-User-Id": "1",
    "X-OpenWebUI-User-Email": "ada@example.com",
    "X-OpenWebUI-User-Role": "admin",
}


class _Backend:
    def __init__(self, url: str) -> None:
        self._url = url

    def _lines(self, path: str, body: Any = None) -> Iterator[bytes]:
        request = Request(self._url + path, json.dumps(body).encode() if body else None, HEADERS)
        with urlopen(request, timeout=30) as reply:
            yield from (line.strip() for line in reply if line.strip())

    def _json(self, path: str, body: Any = None) -> Any:
        return json.loads(b"".join(self._lines(path, body)))


class Ollama(_Backend):
    """What it asks a connection of the kind "Ollama"."""

    def models(self) -> Any:
        assert self._json("/api/version")["version"]
        stored = self._json("/api/tags")["models"]
        for loaded in self._json("/api/ps")["models"]:
            assert loaded["name"] in [model["name"] for model in stored]
            datetime.fromisoformat(loaded["expires_at"])
        assert "completion" in self._json("/api/show", {"model": stored[0]["model"]})["capabilities"]
        return [model["model"] for model in stored]

    def _chat(self, messages: Any, **more: Any) -> Any:
        return self._json("/api/chat", {"model": f"{MODEL}:latest", "messages": messages, "stream": False, **more})

    def _stream(self, messages: Any, **more: Any) -> Iterator[Any]:
        options = {"temperature": 0.8, "num_ctx": 4096, "num_predict": 128, "num_keep": 24, "repeat_penalty": 1.1}
        fields = {"stream": True, "options": options, "keep_alive": "5m", **more}
        yield from map(
            json.loads, self._lines("/api/chat", {"model": f"{MODEL}:latest", "messages": messages, **fields})
        )

    def plain(self) -> Any:
        got = self._chat(ASK, num_predict=1000)
        tokens = [got["prompt_eval_count"], got["eval_count"]]
        return {"text": got["message"]["content"], "finish": got["done_reason"], "tokens": tokens}

    def streamed(self) -> Any:
        *chunks, last = self._stream(ASK)
        pieces = [chunk["message"]["content"] for chunk in chunks]
        tokens = [last["prompt_eval_count"], last["eval_count"]]
        return {"pieces": pieces, "finish": last["done_reason"], "tokens": tokens}

    def streamed_tools(self) -> Any:
        *chunks, last = self._stream([{"role": "user", "content": WARMTH}], tools=TOOLS)
        [called] = [each["function"] for chunk in chunks for each in chunk["message"].get("tool_calls", ())]
        return {"call": call(called["name"], called["arguments"]), "finish": last["done_reason"]}

    def tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        *chunks, last = self._stream(messages, tools=TOOLS)
        [called] = [each["function"] for chunk in chunks for each in chunk["message"].get("tool_calls", ())]
        again = {"index": 0, "id": "call_1", "function": called}  # the id is its own
        result = weather(**called["arguments"])
        messages += [{"role": "assistant", "tool_calls": [again], "content": ""}]
        messages += [{"role": "tool", "content": result, "tool_call_id": "call_1"}]
        text = "".join(chunk["message"]["content"] for chunk in self._stream(messages, tools=TOOLS))
        return {"call": call(called["name"], called["arguments"]), "finish": last["done_reason"], "text": text}

    def structured(self) -> Any:
        return json.loads(self._chat(ASK, format=City.model_json_schema())["message"]["content"])

    def images(self) -> Any:
        return self._chat([{**ASK[0], "images": [PNG]}])["message"]["content"]

    def embeddings(self) -> Any:
        return self._json("/api/embed", {"model": MODEL, "input": ["one", "two"], "truncate": True})["embeddings"]

    def broken(self) -> Any:
        return pieces_until_it_broke(self._pieces())

    def _pieces(self) -> Iterator[str]:
        for chunk in self._stream(ASK):
            if "error" in chunk:
                raise RuntimeError(chunk["error"])
            yield chunk["message"]["content"]


class OpenAI(_Backend):
    """What it asks a connection of the kind "OpenAI"."""

    def models(self) -> Any:
        return [model["id"] for model in self._json("/v1/models")["data"]]

    def _events(self, messages: Any, **more: Any) -> Iterator[Any]:
        fields = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0.8, "top_p": 0.9, **more}
        for line in self._lines("/v1/chat/completions", {"model": MODEL, "messages": messages, **fields}):
            data = line.removeprefix(b"data: ")
            if data != b"[DONE]":
                event = json.loads(data)
                if "error" in event:
                    raise RuntimeError(event["error"]["message"])
                yield event

    def plain(self) -> Any:
        body = {"model": MODEL, "messages": ASK, "stream": False, "max_completion_tokens": 1000}
        got = self._json("/v1/chat/completions", body)
        choice, usage = got["choices"][0], got["usage"]
        tokens = [usage["prompt_tokens"], usage["completion_tokens"]]
        return {"text": choice["message"]["content"], "finish": choice["finish_reason"], "tokens": tokens}

    def streamed(self) -> Any:
        *chunks, last = self._events(ASK)
        pieces = [piece for chunk in chunks if (piece := chunk["choices"][0]["delta"].get("content"))]
        usage = last["usage"]
        tokens = [usage["prompt_tokens"], usage["completion_tokens"]]
        return {"pieces": pieces, "finish": chunks[-1]["choices"][0]["finish_reason"], "tokens": tokens}

    def streamed_tools(self) -> Any:
        *chunks, _ = self._events([{"role": "user", "content": WARMTH}], tools=TOOLS)
        [called] = [each for chunk in chunks for each in chunk["choices"][0]["delta"].get("tool_calls", ())]
        arguments = json.loads(called["function"]["arguments"])
        finish = chunks[-1]["choices"][0]["finish_reason"]
        return {"call": call(called["function"]["name"], arguments, called["id"]), "finish": finish}

    def tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        *chunks, _ = self._events(messages, tools=TOOLS)
        [called] = [each for chunk in chunks for each in chunk["choices"][0]["delta"].get("tool_calls", ())]
        arguments = json.loads(called["function"]["arguments"])
        messages += [{"role": "assistant", "content": "", "tool_calls": [called]}]
        messages += [{"role": "tool", "tool_call_id": called["id"], "content": weather(**arguments)}]
        *rest, _ = self._events(messages, tools=TOOLS)
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in rest)
        finish = chunks[-1]["choices"][0]["finish_reason"]
        return {"call": call(called["function"]["name"], arguments, called["id"]), "finish": finish, "text": text}

    def embeddings(self) -> Any:
        got = self._json("/v1/embeddings", {"input": ["one", "two"], "model": MODEL})
        return [each["embedding"] for each in got["data"]]

    def images(self) -> Any:
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        *chunks, _ = self._events([{"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]}])
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)

    def broken(self) -> Any:
        return pieces_until_it_broke(self._pieces())

    def _pieces(self) -> Iterator[str]:
        for event in self._events(ASK):
            for choice in event["choices"]:
                if piece := choice["delta"].get("content"):
                    yield piece


if __name__ == "__main__":
    serve(Ollama, OpenAI)
