"""OpenAI's own library."""

import json
from typing import Any

import openai
from city import City, Weather
from features import CITY_PARAMETER, MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather

ASK: Any = [{"role": "user", "content": QUESTION}]
WEATHER: Any = {"name": "weather", "description": weather.__doc__, "parameters": CITY_PARAMETER}


class Chat:
    """`/v1/chat/completions`, `/v1/embeddings` and `/v1/models`."""

    def __init__(self, url: str) -> None:
        self._client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        self._chat: Any = self._client.chat.completions

    def plain(self) -> Any:
        got = self._chat.create(model=MODEL, messages=ASK)
        choice = got.choices[0]
        tokens = [got.usage.prompt_tokens, got.usage.completion_tokens]
        return {"text": choice.message.content, "finish": choice.finish_reason, "tokens": tokens}

    def streamed(self) -> Any:
        stream = self._chat.create(model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True})
        *chunks, last = stream
        pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
        tokens = [last.usage.prompt_tokens, last.usage.completion_tokens]
        return {"pieces": pieces, "finish": chunks[-1].choices[0].finish_reason, "tokens": tokens}

    def tools(self) -> Any:
        messages: Any = [{"role": "user", "content": WARMTH}]
        tools: Any = [{"type": "function", "function": WEATHER}]
        choice = self._chat.create(model=MODEL, messages=messages, tools=tools).choices[0]
        called = choice.message.tool_calls[0]
        arguments = json.loads(called.function.arguments)
        messages += [choice.message, {"role": "tool", "tool_call_id": called.id, "content": weather(**arguments)}]
        text = self._chat.create(model=MODEL, messages=messages, tools=tools).choices[0].message.content
        return {"call": call(called.function.name, arguments, called.id), "finish": choice.finish_reason, "text": text}

    def streamed_tools(self) -> Any:
        tools: Any = [{"type": "function", "function": WEATHER}]
        messages: Any = [{"role": "user", "content": WARMTH}]
        with self._chat.stream(model=MODEL, messages=messages, tools=tools) as stream:
            choice = stream.get_final_completion().choices[0]
        called = choice.message.tool_calls[0]
        arguments = json.loads(called.function.arguments)
        return {"call": call(called.function.name, arguments, called.id), "finish": choice.finish_reason}

    def forced_tool(self) -> Any:
        tools = [openai.pydantic_function_tool(Weather, name="weather")]
        chosen: Any = {"type": "function", "function": {"name": "weather"}}
        messages: Any = [{"role": "user", "content": WARMTH}]
        choice = self._chat.parse(model=MODEL, messages=messages, tools=tools, tool_choice=chosen).choices[0]
        called = choice.message.tool_calls[0]
        arguments = called.function.parsed_arguments.model_dump()
        return {"call": call(called.function.name, arguments, called.id), "finish": choice.finish_reason}

    def structured(self) -> Any:
        got = self._chat.parse(model=MODEL, messages=ASK, response_format=City)
        return got.choices[0].message.parsed.model_dump(mode="json")

    def json_mode(self) -> Any:
        got = self._chat.create(model=MODEL, messages=ASK, response_format={"type": "json_object"})
        return json.loads(got.choices[0].message.content)

    def images(self) -> Any:
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        messages: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]}]
        return self._chat.create(model=MODEL, messages=messages).choices[0].message.content

    def embeddings(self) -> Any:
        got = self._client.embeddings.create(model=MODEL, input=["one", "two"])
        return [each.embedding for each in got.data]

    def models(self) -> Any:
        return [self._client.models.retrieve(model.id).id for model in self._client.models.list()]

    def refused(self) -> Any:
        return self._chat.create(model=MODEL, messages=ASK).choices[0].message.content

    def broken(self) -> Any:
        stream = self._chat.create(model=MODEL, messages=ASK, stream=True)
        return pieces_until_it_broke(c.choices[0].delta.content for c in stream if c.choices[0].delta.content)


class Responses:
    """`/v1/responses`."""

    def __init__(self, url: str) -> None:
        self._responses: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="none").responses

    def plain(self) -> Any:
        got = self._responses.create(model=MODEL, input=QUESTION)
        return {
            "text": got.output_text,
            "finish": got.status,
            "tokens": [got.usage.input_tokens, got.usage.output_tokens],
        }

    def streamed(self) -> Any:
        with self._responses.stream(model=MODEL, input=QUESTION) as stream:
            pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
            got = stream.get_final_response()
        return {"pieces": pieces, "finish": got.status, "tokens": [got.usage.input_tokens, got.usage.output_tokens]}

    def tools(self) -> Any:
        asked: Any = [{"role": "user", "content": WARMTH}]
        tools: Any = [{"type": "function", "strict": False, **WEATHER}]
        got = self._responses.create(model=MODEL, input=asked, tools=tools)
        [called] = [item for item in got.output if item.type == "function_call"]
        arguments = json.loads(called.arguments)
        asked += [
            *got.output,
            {"type": "function_call_output", "call_id": called.call_id, "output": weather(**arguments)},
        ]
        text = self._responses.create(model=MODEL, input=asked, tools=tools).output_text
        return {"call": call(called.name, arguments, called.call_id), "finish": got.status, "text": text}

    def streamed_tools(self) -> Any:
        tools: Any = [{"type": "function", "strict": False, **WEATHER}]
        with self._responses.stream(model=MODEL, input=WARMTH, tools=tools) as stream:
            got = stream.get_final_response()
        [called] = [item for item in got.output if item.type == "function_call"]
        return {"call": call(called.name, json.loads(called.arguments), called.call_id), "finish": got.status}

    def forced_tool(self) -> Any:
        tools = [openai.pydantic_function_tool(Weather, name="weather")]
        chosen: Any = {"type": "function", "name": "weather"}
        got = self._responses.parse(model=MODEL, input=WARMTH, tools=tools, tool_choice=chosen)
        [called] = [item for item in got.output if item.type == "function_call"]
        return {"call": call(called.name, called.parsed_arguments.model_dump(), called.call_id), "finish": got.status}

    def structured(self) -> Any:
        got = self._responses.parse(model=MODEL, input=QUESTION, text_format=City)
        return got.output_parsed.model_dump(mode="json")

    def json_mode(self) -> Any:
        form: Any = {"format": {"type": "json_object"}}
        return json.loads(self._responses.create(model=MODEL, input=QUESTION, text=form).output_text)

    def images(self) -> Any:
        picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
        asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}, picture]}]
        return self._responses.create(model=MODEL, input=asked).output_text

    def refused(self) -> Any:
        return self._responses.create(model=MODEL, input=QUESTION).output_text

    def broken(self) -> Any:
        events = self._responses.create(model=MODEL, input=QUESTION, stream=True)
        return pieces_until_it_broke(event.delta for event in events if event.type == "response.output_text.delta")


class Completions:
    """`/v1/completions`."""

    def __init__(self, url: str) -> None:
        self._completions: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="none").completions

    def plain(self) -> Any:
        got = self._completions.create(model=MODEL, prompt=QUESTION)
        tokens = [got.usage.prompt_tokens, got.usage.completion_tokens]
        return {"text": got.choices[0].text, "finish": got.choices[0].finish_reason, "tokens": tokens}

    def streamed(self) -> Any:
        *chunks, last = self._completions.create(
            model=MODEL, prompt=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        pieces = [chunk.choices[0].text for chunk in chunks if chunk.choices[0].text]
        tokens = [last.usage.prompt_tokens, last.usage.completion_tokens]
        return {"pieces": pieces, "finish": chunks[-1].choices[0].finish_reason, "tokens": tokens}

    def refused(self) -> Any:
        return self._completions.create(model=MODEL, prompt=QUESTION).choices[0].text

    def broken(self) -> Any:
        stream = self._completions.create(model=MODEL, prompt=QUESTION, stream=True)
        return pieces_until_it_broke(chunk.choices[0].text for chunk in stream if chunk.choices[0].text)


if __name__ == "__main__":
    serve(Chat, Responses, Completions)
