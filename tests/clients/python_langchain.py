"""LangChain's chat models and embeddings, of OpenAI's kind and of Ollama's."""

from typing import Any

from city import City
from features import MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

WEATHER: Any = tool(weather)


class _Chat:
    """A chat model; `_finish` is where its answers have why they ended, `_embedding` its sister that embeds."""

    _finish: str
    _model: Any
    _embedding: Any

    def plain(self) -> Any:
        got = self._model.invoke(QUESTION)
        return {"text": got.text, **self._end(got)}

    def streamed(self) -> Any:
        chunks = list(self._model.stream(QUESTION))
        got = chunks[0]
        for chunk in chunks[1:]:
            got += chunk
        return {"pieces": [chunk.text for chunk in chunks if chunk.text], **self._end(got)}

    def _end(self, got: Any) -> dict[str, Any]:
        tokens = [got.usage_metadata["input_tokens"], got.usage_metadata["output_tokens"]]
        return {"finish": got.response_metadata[self._finish], "tokens": tokens}

    def tools(self) -> Any:
        model, messages = self._model.bind_tools([WEATHER]), [HumanMessage(WARMTH)]
        got = model.invoke(messages)
        messages += [got, WEATHER.invoke(got.tool_calls[0])]
        return {**self._called(got), "text": model.invoke(messages).text}

    def streamed_tools(self) -> Any:
        first, *chunks = self._model.bind_tools([WEATHER]).stream(WARMTH)
        for chunk in chunks:
            first += chunk
        return self._called(first)

    def _called(self, got: Any) -> dict[str, Any]:
        [called] = got.tool_calls
        return {
            "call": call(called["name"], called["args"], called["id"]),
            "finish": got.response_metadata[self._finish],
        }

    def structured(self) -> Any:
        return self._city()

    def structured_by_tool(self) -> Any:
        return self._city(method="function_calling")

    def json_mode(self) -> Any:
        return self._city(method="json_mode")

    def _city(self, **method: str) -> Any:
        return self._model.with_structured_output(City, **method).invoke(QUESTION).model_dump(mode="json")

    def images(self) -> Any:
        picture: Any = {"type": "image", "base64": PNG, "mime_type": "image/png"}
        return self._model.invoke([HumanMessage([{"type": "text", "text": QUESTION}, picture])]).text

    def embeddings(self) -> Any:
        return self._embedding.embed_documents(["one", "two"])

    def broken(self) -> Any:
        return pieces_until_it_broke(chunk.text for chunk in self._model.stream(QUESTION) if chunk.text)


class OpenAI(_Chat):
    """`ChatOpenAI` and `OpenAIEmbeddings`."""

    def __init__(self, url: str) -> None:
        where: Any = {"model": MODEL, "base_url": f"{url}/v1", "api_key": "none"}
        self._finish, self._model = "finish_reason", ChatOpenAI(**where, stream_usage=True)
        # Else it counts tokens by OpenAI's own tokenizer, which it would download.
        self._embedding = OpenAIEmbeddings(**where, check_embedding_ctx_length=False)

    def forced_tool(self) -> Any:
        return self._called(self._model.bind_tools([WEATHER], tool_choice="weather", strict=True).invoke(WARMTH))

    def refused(self) -> Any:
        return self._model.invoke(QUESTION).text


class Responses(OpenAI):
    """`ChatOpenAI` with `use_responses_api`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._finish, self._model = "status", self._model.model_copy(update={"use_responses_api": True})


class Ollama(_Chat):
    """`ChatOllama` and `OllamaEmbeddings`."""

    def __init__(self, url: str) -> None:
        self._finish, self._model = "done_reason", ChatOllama(model=MODEL, base_url=url)
        self._embedding = OllamaEmbeddings(model=MODEL, base_url=url)


if __name__ == "__main__":
    serve(OpenAI, Responses, Ollama)
