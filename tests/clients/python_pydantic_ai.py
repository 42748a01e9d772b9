"""pydantic-ai's agents."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

from city import City
from features import MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class Chat:
    """`OpenAIChatModel`."""

    def __init__(self, url: str) -> None:
        self._model: Any = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))

    def plain(self) -> Any:
        got = Agent(self._model).run_sync(QUESTION)
        return {"text": got.output, **self._end(got)}

    def _end(self, got: Any) -> dict[str, Any]:
        usage, last = got.usage, got.all_messages()[-1]
        return {"finish": last.finish_reason, "tokens": [usage.input_tokens, usage.output_tokens]}

    def streamed(self) -> Any:
        got = Agent(self._model).run_stream_sync(QUESTION)
        pieces = list(got.stream_text(delta=True, debounce_by=None))
        return {"pieces": pieces, **self._end(got)}

    def tools(self) -> Any:
        got = Agent(self._model, tools=[weather]).run_sync(WARMTH)
        first = next(message for message in got.all_messages() if isinstance(message, ModelResponse))
        [part] = [part for part in first.parts if isinstance(part, ToolCallPart)]
        called = call(part.tool_name, part.args_as_dict(), part.tool_call_id)
        return {"call": called, "finish": first.finish_reason, "text": got.output}

    def streamed_tools(self) -> Any:
        return asyncio.run(self._call_streamed())

    async def _call_streamed(self) -> Any:
        agent = Agent(self._model, tools=[weather])
        async with agent.iter(WARMTH) as run:
            async for node in run:
                if Agent.is_model_request_node(node):
                    async with node.stream(run.ctx) as stream:
                        async for _ in stream:
                            pass
                elif Agent.is_call_tools_node(node):
                    [part] = node.model_response.tool_calls
                    called = call(part.tool_name, part.args_as_dict(), part.tool_call_id)
                    return {"call": called, "finish": node.model_response.finish_reason}
        return None

    def structured(self) -> Any:
        return Agent(self._model, output_type=NativeOutput(City)).run_sync(QUESTION).output.model_dump(mode="json")

    def structured_by_tool(self) -> Any:
        return Agent(self._model, output_type=City).run_sync(QUESTION).output.model_dump(mode="json")

    def images(self) -> Any:
        picture = BinaryContent(base64.b64decode(PNG), media_type="image/png")
        return Agent(self._model).run_sync([QUESTION, picture]).output

    def refused(self) -> Any:
        return Agent(self._model).run_sync(QUESTION).output

    def broken(self) -> Any:
        return pieces_until_it_broke(self._pieces())

    def _pieces(self) -> Iterator[str]:
        yield from Agent(self._model).run_stream_sync(QUESTION).stream_text(delta=True, debounce_by=None)


class Responses(Chat):
    """`OpenAIResponsesModel`."""

    def __init__(self, url: str) -> None:
        self._model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))


if __name__ == "__main__":
    serve(Chat, Responses)
