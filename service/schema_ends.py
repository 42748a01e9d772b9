"""Whether a schema with recursive definitions allows a finite answer."""

from typing import Any

Schema = dict[str, Any]


class _Part:
    """A part of a schema: it allows a finite answer once `waits` of its own parts do."""

    def __init__(self, waits: int, *parents: "_Part") -> None:
        self.waits, self.parents = waits, list(parents)


def can_end(schema: Schema, definitions: dict[str, Schema]) -> bool:
    """Say whether a rewritten schema allows a finite answer, and no definition refers only to itself.

    It takes linear time, not quadratic, since callers choose the references.
    """
    return _is_finite(schema, definitions) and not _means_itself(definitions)


def _is_finite(schema: Schema, definitions: dict[str, Schema]) -> bool:
    whole, ended = _Part(1), list[_Part]()
    roots = {name: _Part(1) for name in definitions}
    _link(schema, whole, roots, ended)
    for name, each in definitions.items():
        _link(each, roots[name], roots, ended)
    while ended:
        for parent in ended.pop().parents:
            parent.waits -= 1
            if parent.waits == 0:
                ended.append(parent)
    return whole.waits <= 0


def _link(schema: Schema, parent: _Part, roots: dict[str, _Part], ended: list[_Part]) -> None:
    """Build the parts of a rewritten schema below `parent`; those that wait for nothing go into `ended`."""
    if "$ref" in schema:
        roots[_name(schema)].parents.append(parent)
        return
    if "anyOf" in schema:
        inner, waits = schema["anyOf"], 1
    else:
        inner = [schema["properties"][name] for name in schema.get("required", ())] + schema.get("prefixItems", [])
        inner += [schema["items"]] if schema.get("minItems") else []
        waits = len(inner)
    part = _Part(waits, parent)
    if not waits:
        ended.append(part)
    for each in inner:
        _link(each, part, roots, ended)


def _means_itself(definitions: dict[str, Schema]) -> bool:
    """Say whether a definition leads back to itself without consuming any of the answer."""
    same = {name: _same_as(each) for name, each in definitions.items()}
    return any(_leads_back(name, same) for name in same)


def _leads_back(name: str, same: dict[str, set[str]]) -> bool:
    seen: set[str] = set()
    waiting = set(same[name])
    while waiting:
        other = waiting.pop()
        if other == name:
            return True
        seen.add(other)
        waiting |= same[other] - seen
    return False


def _same_as(schema: Schema) -> set[str]:
    """Return the definitions that a rewritten schema may be equal to."""
    if "$ref" in schema:
        return {_name(schema)}
    return set().union(*map(_same_as, schema.get("anyOf", ())))


def _name(reference: Schema) -> str:
    return str(reference["$ref"].rpartition("/")[2])
