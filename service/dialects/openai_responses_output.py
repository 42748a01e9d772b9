"""The output items of `POST /v1/responses`, and the events of a stream."""

import json
from collections.abc import Iterator
from typing import Any

from service.dialects.openai_responses_items import REASONING
from service.streams import new_id

Item = dict[str, Any]
Event = tuple[str, dict[str, Any]]  # its type, without `response.`, and its fields


class Output:
    """The items of the answer so far. thoughts: whether they include the model's thoughts."""

    def __init__(self, *, thoughts: bool) -> None:
        self.items: list[Item] = []
        self._thoughts, self._texts = thoughts, list[str]()
        self._open = ""  # the type of the last item, while it is incomplete

    def add(self, message: dict[str, Any]) -> Iterator[Event]:
        """Add a message of Ollama's, and yield the new events."""
        if self._thoughts and message.get("thinking"):
            yield from self._go_on("reasoning", message["thinking"])
        if message["content"]:
            yield from self._go_on("message", message["content"])
        for call in message.get("tool_calls", ()):
            yield from self.close()
            yield from self._call(call["function"]["name"], json.dumps(call["function"]["arguments"]))

    def end(self, *, cut: bool) -> Iterator[Event]:
        """Complete the answer, and yield the new events. cut: whether it ended at the token limit."""
        if all(item["type"] == "reasoning" for item in self.items):
            yield from self._go_on("message", "")
        yield from self.close("incomplete" if cut else "completed")

    def _go_on(self, kind: str, text: str) -> Iterator[Event]:
        if self._open != kind:
            yield from self.close()
            self._open, self._texts = kind, []
            yield from self._begin(kind)
        self._texts.append(text)
        if not text:
            return
        if kind == "message":
            yield "output_text.delta", {**self._place(), "delta": text, "logprobs": []}
        else:
            yield "reasoning_summary_text.delta", {**self._place(), "delta": text}

    def _begin(self, kind: str) -> Iterator[Event]:
        if kind == "message":
            item = {"type": kind, "status": "in_progress", "role": "assistant", "content": []}
            yield self._added({"id": new_id("msg"), **item})
            yield "content_part.added", {**self._place(), "part": output_text("")}
        else:
            yield self._added({"id": new_id(REASONING), "type": kind, "summary": []})
            yield "reasoning_summary_part.added", {**self._place(), "part": summary_text("")}

    def close(self, status: str = "completed") -> Iterator[Event]:
        """Complete the open item, if there is one, and yield the new events."""
        kind, self._open, text = self._open, "", "".join(self._texts)
        if kind == "message":
            part = output_text(text)
            yield "output_text.done", {**self._place(), "text": text, "logprobs": []}
            yield "content_part.done", {**self._place(), "part": part}
            yield self._done(content=[part], status=status)
        elif kind:
            part = summary_text(text)
            yield "reasoning_summary_text.done", {**self._place(), "text": text}
            yield "reasoning_summary_part.done", {**self._place(), "part": part}
            yield self._done(summary=[part])

    def _call(self, name: str, arguments: str) -> Iterator[Event]:
        item = {"type": "function_call", "status": "in_progress", "arguments": "", "name": name}
        yield self._added({"id": new_id("fc"), "call_id": new_id("call"), **item})
        yield "function_call_arguments.delta", {**self._place(), "delta": arguments}
        yield "function_call_arguments.done", {**self._place(), "arguments": arguments, "name": name}
        yield self._done(arguments=arguments, status="completed")

    def _place(self) -> dict[str, Any]:
        """Return the fields that locate the last item."""
        item = self.items[-1]
        inner = {"message": {"content_index": 0}, "reasoning": {"summary_index": 0}}.get(item["type"], {})
        return {"item_id": item["id"], "output_index": len(self.items) - 1, **inner}

    def _added(self, item: Item) -> Event:
        self.items.append(item)
        return "output_item.added", {"output_index": len(self.items) - 1, "item": dict(item)}

    def _done(self, **fields: Any) -> Event:
        item = self.items[-1] = {**self.items[-1], **fields}
        return "output_item.done", {"output_index": len(self.items) - 1, "item": item}


def output_text(text: str) -> Item:
    """Return the text part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def summary_text(text: str) -> Item:
    """Return the text part of a reasoning item."""
    return {"type": "summary_text", "text": text}
