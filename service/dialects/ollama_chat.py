"""`POST /api/chat` and `POST /api/generate`, for Ollama's own clients; streamed by default."""

from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import Field

from service.dialects.described import NDJSON_PIECES, TEXT, Route
from service.dialects.ollama_answers import MESSAGE, answer_schema, respond, respond_idle
from service.dialects.ollama_body import ONLY_EMPTY, ONLY_FALSE, GenerationBody, find_model, without
from service.dialects.ollama_messages import OllamaMessage, OllamaTool
from service.http_request import caller, read_body
from service.keys import Keys
from service.model_facts import Fields
from service.models import Models
from service.parsing import Ignored, Image, Items, parse
from service.question import MAX_MESSAGES, MAX_TOOLS, SPOKEN, Question, Turn, system_turns


class OllamaChatBody(GenerationBody):
    """The body of POST /api/chat; without messages, it asks to load or unload the model."""

    example = (
        'send JSON, such as: curl "$URL/api/chat" '
        """-d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}'"""
    )

    messages: Annotated[Items[OllamaMessage], Field(max_length=MAX_MESSAGES, json_schema_extra=SPOKEN)] = Field(
        default_factory=list
    )
    tools: Annotated[Items[OllamaTool], Field(max_length=MAX_TOOLS)] | None = None
    # Added by Open WebUI, and ignored here by Ollama too.
    metadata: Ignored
    num_predict: Ignored
    system: Ignored
    template: Ignored

    def question(self) -> Question:
        """Return the question."""
        question = self.asked([message.asked(f"messages[{i}]") for i, message in enumerate(self.messages)], "messages")
        question.tools = [tool.asked(f"tools[{i}]") for i, tool in enumerate(self.tools or ())]
        return question


class OllamaGenerateBody(GenerationBody):
    """The body of POST /api/generate; without a prompt, it asks to load or unload the model."""

    example = """send JSON, such as: curl "$URL/api/generate" -d '{"model": "MODEL", "prompt": "Hi"}'"""

    prompt: str = ""
    system: str = ""
    images: Annotated[Items[Image], Field(max_length=64)] | None = None
    raw: Annotated[bool, without("the model's template is always used"), ONLY_FALSE] = False
    suffix: Annotated[str, without("no text can be filled in"), ONLY_EMPTY] = ""
    template: Annotated[str, without("the model has its own"), ONLY_EMPTY] = ""
    context: Annotated[
        list[Any] | None,
        without("send the conversation to /api/chat instead"),
        Field(description="[]", json_schema_extra={"maxItems": 0}),
    ] = None

    def question(self) -> Question:
        """Return the question."""
        images = {f"images[{i}]": data for i, data in enumerate(self.images or ())}
        prompt = Turn("prompt", "user", [self.prompt], images, text_field="prompt")
        return self.asked([*system_turns(self.system), prompt], "prompt")


ROUTES = (
    Route(
        "POST", "/api/chat", "Go on with a conversation", answer_schema(message=MESSAGE), OllamaChatBody, NDJSON_PIECES
    ),
    Route("POST", "/api/generate", "Answer a prompt", answer_schema(response=TEXT), OllamaGenerateBody, NDJSON_PIECES),
)


def ollama_chat_blueprint(models: Models, keys: Keys | None) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("ollama_chat", __name__)

    @blueprint.post("/api/chat")
    def chat() -> Response:
        who, body = caller(keys), parse(OllamaChatBody, read_body())
        gateway = find_model(models, body.model, who.key)
        if body.messages:
            return respond(who, body, body.question(), gateway, in_message)
        return respond_idle(body, body.question(), gateway, in_message)

    @blueprint.post("/api/generate")
    def generate() -> Response:
        who, body = caller(keys), parse(OllamaGenerateBody, read_body())
        gateway = find_model(models, body.model, who.key)
        if body.prompt:
            return respond(who, body, body.question(), gateway, in_response)
        return respond_idle(body, body.question(), gateway, in_response)

    return blueprint


def in_message(message: Fields) -> Fields:
    """Return the fields of a message in the objects of /api/chat."""
    return {"message": message}


def in_response(message: Fields) -> Fields:
    """Return the fields of a message in the objects of /api/generate."""
    thoughts = {"thinking": message["thinking"]} if "thinking" in message else {}
    return {"response": message["content"], **thoughts}
