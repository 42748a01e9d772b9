"""llm, with a model from its `extra-openai-models.yaml`."""

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import llm
from city import City
from features import MODEL, PNG, QUESTION, WARMTH, call, pieces_until_it_broke, serve, weather

HOME = tempfile.TemporaryDirectory(prefix="llm-")


class Chat:
    """A model of `extra-openai-models.yaml`."""

    def __init__(self, url: str) -> None:
        os.environ["LLM_USER_PATH"] = HOME.name
        model = {"model_id": "sluice", "model_name": MODEL, "api_base": f"{url}/v1", "api_key_name": "sluice"}
        can = dict.fromkeys(("vision", "supports_schema", "supports_tools"), True)
        Path(HOME.name, "extra-openai-models.yaml").write_text(json.dumps([{**model, **can}]))
        Path(HOME.name, "keys.json").write_text('{"sluice": "none"}')
        self._model = llm.get_model("sluice")

    def plain(self) -> Any:
        got = self._model.prompt(QUESTION, stream=False)
        return {"text": got.text(), "finish": None, "tokens": [got.usage().input, got.usage().output]}

    def streamed(self) -> Any:
        got = self._model.prompt(QUESTION)
        pieces = [piece for piece in got if piece]
        return {"pieces": pieces, "finish": None, "tokens": [got.usage().input, got.usage().output]}

    def tools(self) -> Any:
        chain = self._model.chain(WARMTH, tools=[weather], stream=False)
        first, last = chain.responses()
        [called] = first.tool_calls()
        return {"call": call(called.name, called.arguments, called.tool_call_id), "finish": None, "text": last.text()}

    def streamed_tools(self) -> Any:
        [called] = self._model.prompt(WARMTH, tools=[llm.Tool.function(weather)]).tool_calls()
        return {"call": call(called.name, called.arguments, called.tool_call_id), "finish": None}

    def structured(self) -> Any:
        return json.loads(self._model.prompt(QUESTION, schema=City, stream=False).text())

    def images(self) -> Any:
        picture = llm.Attachment(type="image/png", content=base64.b64decode(PNG))
        return self._model.prompt(QUESTION, attachments=[picture], stream=False).text()

    def refused(self) -> Any:
        return self._model.prompt(QUESTION, stream=False).text()

    def broken(self) -> Any:
        return pieces_until_it_broke(piece for piece in self._model.prompt(QUESTION) if piece)


if __name__ == "__main__":
    serve(Chat)
