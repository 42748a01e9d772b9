"""The JSON schemas of tools' parameters, which the model reads: only their form is checked."""

from typing import Any

from service.errors import InvalidRequest
from service.schemas import TYPES

HINT = "it must be a JSON schema, as OpenAI's clients write it"


def check_parameters(field: str, schema: Any) -> None:
    """Refuse a JSON schema whose keywords have values that the engine can't parse; raises InvalidRequest.

    A null keyword counts as absent, as it does for the engine.
    """
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{field}: must be an object", hint=HINT)
    schema = {word: value for word, value in schema.items() if value is not None}
    kinds = schema.get("type", [])
    if not all(kind in TYPES for kind in (kinds if isinstance(kinds, list) else [kinds])):
        raise InvalidRequest(f"{field}.type: must be one of {', '.join(TYPES)}", hint=HINT)
    for word, kind in {"description": str, "enum": list, "required": list, "properties": dict, "anyOf": list}.items():
        if not isinstance(schema.get(word, kind()), kind):
            raise InvalidRequest(f"{field}.{word}: has a value of the wrong type", hint=HINT)
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        raise InvalidRequest(f"{field}.required: must be a list of names", hint=HINT)
    for name, each in schema.get("properties", {}).items():
        check_parameters(f"{field}.properties.{name[:64]}", each)
    for i, each in enumerate(schema.get("anyOf", ())):
        check_parameters(f"{field}.anyOf[{i}]", each)
