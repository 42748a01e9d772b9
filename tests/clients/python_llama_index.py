"""LlamaIndex's OpenAI-like model and embedding."""

from typing import Any

from city import City
from features import MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

WEATHER = FunctionTool.from_defaults(weather)


class OpenAI:
    """`OpenAILike` and `OpenAILikeEmbedding`."""

    def __init__(self, url: str) -> None:
        where: Any = {"api_base": f"{url}/v1", "api_key": "none"}
        self._where: Any = {"model": MODEL, **where, "is_chat_model": True, "is_function_calling_model": True}
        self._model = OpenAILike(**self._where)
        self._embedding = OpenAILikeEmbedding(model_name=MODEL, **where)

    def plain(self) -> Any:
        got = self._model.chat([ChatMessage(QUESTION)])
        usage = got.raw.usage
        tokens = [usage.prompt_tokens, usage.completion_tokens]
        return {"text": got.message.content, "finish": got.raw.choices[0].finish_reason, "tokens": tokens}

    def streamed(self) -> Any:
        options = {"include_usage": True}
        chunks = list(self._model.stream_chat([ChatMessage(QUESTION)], stream_options=options))
        [finish] = {c.finish_reason for chunk in chunks for c in chunk.raw.choices if c.finish_reason}
        usage = chunks[-1].raw.usage
        tokens = [usage.prompt_tokens, usage.completion_tokens]
        return {"pieces": [chunk.delta for chunk in chunks if chunk.delta], "finish": finish, "tokens": tokens}

    def tools(self) -> Any:
        messages = [ChatMessage(WARMTH)]
        got = self._model.chat_with_tools([WEATHER], chat_history=messages)
        [called] = self._model.get_tool_calls_from_response(got)
        result = WEATHER(**called.tool_kwargs).content
        about = {"tool_call_id": called.tool_id}
        messages += [got.message, ChatMessage(result, role="tool", additional_kwargs=about)]
        text = self._model.chat_with_tools([WEATHER], chat_history=messages).message.content
        finish = got.raw.choices[0].finish_reason
        return {"call": call(called.tool_name, called.tool_kwargs, called.tool_id), "finish": finish, "text": text}

    def streamed_tools(self) -> Any:
        *_, got = self._model.stream_chat_with_tools([WEATHER], chat_history=[ChatMessage(WARMTH)])
        [called] = self._model.get_tool_calls_from_response(got)
        finish = got.raw.choices[0].finish_reason
        return {"call": call(called.tool_name, called.tool_kwargs, called.tool_id), "finish": finish}

    def forced_tool(self) -> Any:
        got = self._model.chat_with_tools([WEATHER], user_msg=WARMTH, tool_required=True)
        [called] = self._model.get_tool_calls_from_response(got)
        finish = got.raw.choices[0].finish_reason
        return {"call": call(called.tool_name, called.tool_kwargs, called.tool_id), "finish": finish}

    def structured(self) -> Any:
        model = OpenAILike(**self._where, should_use_structured_outputs=True)
        return model.as_structured_llm(City).chat([ChatMessage(QUESTION)]).raw.model_dump(mode="json")

    def structured_by_tool(self) -> Any:
        return self._model.as_structured_llm(City).chat([ChatMessage(QUESTION)]).raw.model_dump(mode="json")

    def images(self) -> Any:
        blocks = [TextBlock(text=QUESTION), ImageBlock(url=f"data:image/png;base64,{PNG}")]
        return self._model.chat([ChatMessage(blocks=blocks)]).message.content

    def embeddings(self) -> Any:
        return self._embedding.get_text_embedding_batch(["one", "two"])

    def refused(self) -> Any:
        return self._model.chat([ChatMessage(QUESTION)]).message.content

    def broken(self) -> Any:
        chunks = self._model.stream_chat([ChatMessage(QUESTION)])
        return pieces_until_it_broke(chunk.delta for chunk in chunks if chunk.delta)


if __name__ == "__main__":
    serve(OpenAI)
