"""Whether a schema whose definitions refer to each other has an answer that ends."""

from typing import Any

Schema = dict[str, Any]


def can_end(schema: Schema, definitions: dict[str, Schema]) -> bool:
    """Say whether a finite answer fits a rewritten schema, and no definition only ever means itself."""
    ends: set[str] = set()
    while new := {name for name, each in definitions.items() if name not in ends and _ends(each, ends)}:
        ends |= new
    return _ends(schema, ends) and not any(_is_itself(name, definitions) for name in definitions)


def _is_itself(name: str, definitions: dict[str, Schema]) -> bool:
    """Say whether a definition leads back to itself with nothing of an answer between."""
    seen: set[str] = set()
    waiting = _same_as(definitions[name])
    while waiting:
        other = waiting.pop()
        if other == name:
            return True
        seen.add(other)
        waiting |= _same_as(definitions[other]) - seen
    return False


def _same_as(schema: Schema) -> set[str]:
    """Return the definitions that a rewritten schema may stand for as they are."""
    if "$ref" in schema:
        return {schema["$ref"].rpartition("/")[2]}
    return set().union(*map(_same_as, schema.get("anyOf", ())))


def _ends(schema: Schema, ends: set[str]) -> bool:
    """Say whether a finite answer fits a rewritten schema, given the definitions of which that is known."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2] in ends
    if "anyOf" in schema:
        return any(_ends(each, ends) for each in schema["anyOf"])
    inner = [schema["properties"][name] for name in schema.get("required", ())] + schema.get("prefixItems", [])
    inner += [schema["items"]] if schema.get("minItems") else []
    return all(_ends(each, ends) for each in inner)
