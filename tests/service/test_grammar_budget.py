import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from service import create_models
from service.dialects.openai_chat_body import ChatBody
from service.errors import InvalidRequest
from service.fitting import ForcedCall
from service.grammar_budget import MAX_COST, MAX_PATTERNS, Budget
from service.patterns import safe_pattern
from service.schemas import ANY, TYPES, safe_schema
from service.settings import Settings
from testbed.stand_in import MODEL, StandIn

STRING = {"type": "string"}
LONG = "." * 998


def spellings(name: str) -> Iterator[str]:
    for escaped in itertools.product((False, True), repeat=len(name)):
        yield "".join(f"%{ord(char):02x}" if each else char for char, each in zip(name, escaped, strict=True))


def nested(schema: Any) -> Any:
    """Return a schema that refers to each of the places in which it holds another."""
    inner: Any = schema
    for _ in range(14):
        inner = {"items": inner}
    return {"a": inner, "anyOf": [{"$ref": "#/a" + "/items" * level} for level in range(15)]}


WORST = {
    "one definition in many spellings": {
        "anyOf": [{"$ref": f"#/{name}"} for name in itertools.islice(spellings("aaaaaaa"), 128)],
        "aaaaaaa": {"anyOf": [{"pattern": "." * 1000}] * 11},
    },
    "long patterns": {"anyOf": [{"pattern": f"{chr(0x4E00 + i)}{LONG}"} for i in range(300)]},
    "patterns that can't be enforced": {"anyOf": [{"pattern": rf"[\W{chr(0x4E00 + i)}](?=x)"} for i in range(3000)]},
    "many types": {"type": ["null"] * 1100, "anyOf": [{}] * 2600},
    "all types": {"type": list(TYPES), "anyOf": [{}] * 3990},
    "alternatives in many places": nested({"anyOf": [{}] * 240}),
    "too many alternatives in many places": nested({"anyOf": [{}] * 4000}),
    "values in many places": nested({"type": ["null", "boolean", "string"], "enum": [{}] * 9000}),
    "a long reference": {"$ref": "#" + "/" * 8_000_000},
    "an escaped reference": {"$ref": "#/" + "%61" * 2_600_000},
    "long references": {"anyOf": [{"$ref": "#" + "/%61" * 250 + f"/{i}"} for i in range(4000)]},
    "references to all": {
        "$defs": {f"d{i}": {"anyOf": [*({"$ref": f"#/$defs/d{j}"} for j in range(i)), STRING]} for i in range(80)},
        "$ref": "#/$defs/d79",
    },
}


@pytest.mark.parametrize("name", WORST)
def test_no_schema_costs_much(name: str) -> None:
    started = time.process_time()
    with contextlib.suppress(InvalidRequest):
        assert len(json.dumps(safe_schema("schema", WORST[name], Budget()).schema)) < 500_000
    assert time.process_time() - started < 0.5  # 0.04 s where nothing else runs


def test_references_to_one_place_are_one_definition_however_they_are_spelled() -> None:
    schema = {"prefixItems": [{"$ref": f"#/{name}"} for name in spellings("ab")], "ab": STRING}
    rewritten = {"type": "array", "prefixItems": [{"$ref": "#/$defs/d0"}] * 4, "$defs": {"d0": STRING}}
    assert safe_schema("schema", schema, Budget()).schema == rewritten


def pattern(number: int) -> dict[str, Any]:
    return {"pattern": f"^[{chr(0x4E00 + number)}{'a' * (MAX_PATTERNS // 5 - 5)}]$"}


def test_a_pattern_is_read_once_and_different_ones_up_to_a_limit() -> None:
    five = {"prefixItems": [pattern(i) for i in range(5)] * 20}
    assert safe_schema("schema", five, Budget()).exact
    six = safe_schema("schema", {"prefixItems": [pattern(i) for i in range(6)]}, Budget())
    assert ([("pattern" in each) for each in six.schema["prefixItems"]], six.exact) == ([True] * 5 + [False], False)


def test_types_are_named_once_each() -> None:
    with pytest.raises(InvalidRequest, match=r"schema\.type: must name each type at most once"):
        safe_schema("schema", {"type": ["null"] * 8}, Budget())


def test_an_alternative_that_allows_any_value_stands_for_all() -> None:
    assert safe_schema("schema", {"anyOf": [STRING, {}]}, Budget()).schema == ANY
    assert safe_schema("schema", {"anyOf": [STRING] * (MAX_COST + 1)}, Budget()).schema == ANY


def rules(schema: Any) -> int:
    """Return how many rules and repetitions a schema in the engine's form has."""
    if schema == ANY:
        return 1
    inner = [*schema.get("anyOf", ()), *schema.get("properties", {}).values(), *schema.get("prefixItems", ())]
    inner += [schema["items"]] if "items" in schema else []
    own = 8 * len(schema.get("enum", ())) + 3 * schema.get("maxItems", 0) + schema.get("maxLength", 0)
    own += safe_pattern(schema["pattern"]).states if "pattern" in schema else 0
    return int(own) + 1 + sum(map(rules, [*inner, *schema.get("$defs", {}).values()]))


COSTLY = {
    "length": {**STRING, "maxLength": 1999},
    "items": {"type": "array", "items": {"type": "integer"}, "maxItems": 1000},
    "pattern": {"pattern": "^[a-z]{990}$"},
    "values": {"enum": [f"{i}" for i in range(400)]},
    "reference": {"$ref": "#/$defs/a"},
}


def forced(count: int, schema: Any, letters: int = 0) -> ForcedCall:
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"], "$defs": {"a": COSTLY["length"]}}
    tools = [
        {"type": "function", "function": {"name": f"f{i}{'x' * letters}", "parameters": parameters}}
        for i in range(count)
    ]
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "tools": tools, "tool_choice": "required"}
    gateway = create_models(Settings(model=MODEL, max_prompt_chars=1 << 20)).default
    _chat, _options, fit = ChatBody.model_validate(body).question().for_ollama(gateway)
    assert isinstance(fit, ForcedCall)
    return fit


@pytest.mark.parametrize("kind", COSTLY)
@pytest.mark.parametrize("count", [2, 30, 128])
def test_the_grammar_of_all_calls_together_is_bounded(count: int, kind: str) -> None:
    fit = forced(count, COSTLY[kind])
    assert rules(fit.form) <= MAX_COST
    assert len(fit.form["anyOf"]) == count  # the grammar allows all tools, and no other name
    assert count == 128 or fit.tools[0].arguments.grammar.exact
    assert count == 2 or not fit.tools[-1].arguments.grammar.exact


def test_tools_whose_names_alone_are_too_much_are_checked_afterwards() -> None:
    fit = forced(128, STRING, letters=250)
    assert rules(fit.form) < 10
    assert not any(tool.arguments.grammar.exact for tool in fit.tools)


def test_many_small_tools_are_enforced_in_full() -> None:
    fit = forced(64, {**STRING, "maxLength": 20})
    assert all(tool.arguments.grammar.exact for tool in fit.tools)


def test_a_call_that_the_grammar_allows_but_no_tool_is_asked_for_again(
    make_app: Callable[..., Flask], stand_in: StandIn
) -> None:
    names = [f"{i:03}{'x' * 250}" for i in range(128)]
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    stand_in.script = ['{"name": "x", "arguments": {}}', json.dumps({"name": names[5], "arguments": {}})]
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "tools": tools}
    client = make_app(max_prompt_chars=1 << 20).test_client()
    reply: Any = client.post("/v1/chat/completions", json={**body, "tool_choice": "required"})
    assert reply.json["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == names[5]
    arguments = {"name": {"type": "string"}, "arguments": {"type": "object"}}
    assert [chat["format"]["properties"] for chat in stand_in.chats()] == [arguments] * 2
