import contextlib
import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.grammar_budget import Budget
from service.schemas import ANY, Grammar, safe_schema

STRING, INTEGER = {"type": "string"}, {"type": "integer"}
NODE = {
    "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
    "$ref": "#/$defs/Node",
}


def deep(levels: int) -> Any:
    schema: Any = STRING
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "field", "complaint"),
    [
        (5, "", "must be a JSON schema"),
        (False, "", "must be a JSON schema"),
        ({"type": "strin"}, ".type", "must be one of object, array"),
        ({"type": [[]]}, ".type", "must be a name, or a list of names"),
        ({"type": []}, ".type", "must be one of"),
        ({**STRING, "pattern": 5}, ".pattern", "must be a regular expression"),
        ({**STRING, "format": 5}, ".format", "must be a name"),
        ({**STRING, "minLength": -1}, ".minLength", "must be a whole number"),
        ({**STRING, "minLength": 3, "maxLength": 1}, ".minLength", "is above maxLength"),
        ({**STRING, "minLength": 5000, "maxLength": 4000}, ".minLength", "is above maxLength"),
        ({"items": INTEGER, "minItems": 3, "maxItems": 1}, ".minItems", "is above maxItems"),
        ({"items": INTEGER, "minItems": "3"}, ".minItems", "must be a whole number"),
        ({**INTEGER, "minimum": 5, "maximum": 3}, ".minimum", "is above the maximum"),
        ({**INTEGER, "exclusiveMinimum": 5, "exclusiveMaximum": 6}, ".exclusiveMinimum", "leaves no whole number"),
        ({"type": "number", "minimum": "5"}, ".minimum", "must be a number"),
        ({"type": "number", "minimum": 5, "maximum": 3}, ".minimum", "is above the maximum"),
        ({"properties": {"a": {"$ref": "#/$defs/Nope"}}}, ".properties.a.$ref", "is nowhere in the schema"),
        ({"$ref": "https://example.com/a.json"}, ".$ref", "must begin with #/; nothing is fetched"),
        ({"$ref": 5}, ".$ref", "must begin with #/"),
        ({"$ref": "#"}, ".$ref", "refers to itself"),
        ({**NODE, "$defs": {"Node": {"$ref": "#/$defs/Node"}}}, ".$ref", "refers to itself"),
        ({**NODE, "$defs": {"Node": {"anyOf": [STRING, {"$ref": "#/$defs/Node"}]}}}, ".$ref", "refers to itself"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, ".$ref", "refers to itself"),
        ({"items": {"$ref": "#"}, "minItems": 1}, ".$ref", "refers to itself"),
        ({"enum": []}, ".enum", "must be a list of values"),
        ({**STRING, "enum": [1]}, ".enum", "has no value of its type"),
        ({"anyOf": []}, ".anyOf", "must be a list"),
        ({"properties": []}, ".properties", "must be an object"),
        ({"required": "a"}, ".required", "must be a list of names"),
    ],
)
def test_what_is_no_schema_or_fits_nothing_is_refused_by_its_keyword(schema: Any, field: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        safe_schema("schema", schema, Budget())
    assert refused.value.message.startswith(f"schema{field}: ")
    assert complaint in refused.value.message


@pytest.mark.parametrize(
    ("schema", "rewritten"),
    [
        ({"type": "string", "title": "T", "description": "D", "default": "x", "x-order": 1}, STRING),
        ({"type": ["string", "null"], "maxLength": 5}, {"anyOf": [{**STRING, "maxLength": 5}, {"type": "null"}]}),
        ({"type": ["string", "null"], "enum": ["a", None, 5]}, {"enum": ["a", None]}),
        ({"const": 5}, {"enum": [5]}),
        ({"type": "string", "anyOf": [{"format": "date"}, {"maxLength": 0}]},
         {"anyOf": [{**STRING, "format": "date"}, {**STRING, "maxLength": 0}]}),
        ({"allOf": [INTEGER], "description": "D"}, INTEGER),
        ({**STRING, "format": "date-time"}, {**STRING, "format": "date-time"}),
        ({**STRING, "format": "colour"}, STRING),
        ({**STRING, "pattern": "^$"}, {"enum": [""]}),
        ({**STRING, "pattern": "^a{2,3}$", "minLength": 1, "maxLength": 9}, {**STRING, "pattern": "^[a]{2,3}$"}),
        ({**INTEGER, "minimum": 0.5, "exclusiveMaximum": 3}, {**INTEGER, "minimum": 1, "maximum": 2}),
        ({"type": "object", "additionalProperties": INTEGER, "propertyNames": STRING},
         {"type": "object", "additionalProperties": INTEGER}),
        ({"type": "object"}, {"type": "object"}),
        ({"type": "array", "items": STRING, "maxItems": 0}, {"enum": [[]]}),
        ({"prefixItems": [STRING, INTEGER], "items": False, "minItems": 2},
         {"type": "array", "prefixItems": [STRING, INTEGER]}),
    ],
)  # fmt: skip
def test_what_a_grammar_holds_is_sent_on_and_needs_no_check(schema: Any, rewritten: Any) -> None:
    assert safe_schema("schema", schema, Budget()) == Grammar(rewritten, exact=True)


@pytest.mark.parametrize(
    ("schema", "rewritten"),
    [
        ({**STRING, "pattern": "^(?=a)a$"}, STRING),
        ({**STRING, "pattern": "^a+$", "maxLength": 5}, {**STRING, "maxLength": 5}),
        ({**STRING, "pattern": "^a$", "format": "date"}, {**STRING, "pattern": "^[a]$"}),
        ({**STRING, "format": "uri"}, STRING),
        ({**STRING, "maxLength": 2000}, STRING),
        ({"type": "number", "minimum": 0, "multipleOf": 2}, {"type": "number"}),
        ({**INTEGER, "minimum": 1e30}, INTEGER),
        ({**INTEGER, "minimum": -(2**53)}, INTEGER),
        ({"oneOf": [STRING, INTEGER], "discriminator": {}}, {"anyOf": [STRING, INTEGER]}),
        ({"allOf": [INTEGER, {"minimum": 3}]}, INTEGER),
        ({"anyOf": [STRING], "properties": {}}, {"type": "object"}),
        ({"enum": [{"a": 1}, 2]}, ANY),
        ({**STRING, "enum": ["a"], "pattern": "a"}, {"enum": ["a"]}),
        ({"type": "array", "items": INTEGER, "uniqueItems": True}, {"type": "array", "items": INTEGER}),
        ({"prefixItems": [STRING], "minItems": 2}, {"type": "array", "items": ANY}),
        ({"properties": {"": STRING}}, {"type": "object"}),
        ({"properties": {"$ref": STRING}}, {"type": "object"}),
        ({"properties": {}, "required": ["a"]}, {"type": "object"}),
        ({"propertyNames": {"pattern": "a"}}, {"type": "object"}),
        ({"properties": {f"p{i}": STRING for i in range(65)}}, {"type": "object"}),
        ({"not": STRING}, ANY),
        ({"type": "object", "minProperties": 2}, {"type": "object"}),
        ({"enum": [f"{i}" for i in range(501)]}, ANY),
    ],
)
def test_what_a_grammar_cannot_hold_is_left_out_and_must_be_checked(schema: Any, rewritten: Any) -> None:
    assert safe_schema("schema", schema, Budget()) == Grammar(rewritten, exact=False)


@pytest.mark.parametrize("schema", [deep(17), {"items": {**STRING, "maxLength": 2000}, "maxItems": 1000}])
def test_a_schema_too_large_for_a_grammar_is_held_in_part(schema: Any) -> None:
    assert not safe_schema("schema", schema, Budget()).exact


def test_references_are_kept_as_far_as_they_end() -> None:
    shut = {"type": "object", "required": [], "additionalProperties": False}
    again = {**shut, "properties": {"next": {"$ref": "#/$defs/d0"}}}
    assert safe_schema("schema", NODE, Budget()).schema == {**again, "$defs": {"d0": again}}
    place = {"definitions": {"a/b": STRING}, "items": {"$ref": "#/definitions/a~1b"}}
    assert safe_schema("schema", place, Budget(), "t1_").schema == {
        "type": "array", "items": {"$ref": "#/$defs/t1_d0"}, "$defs": {"t1_d0": STRING}
    }  # fmt: skip


WORDS = ["type", "properties", "required", "items", "enum", "anyOf", "$ref", "pattern", "minimum", "maxItems", "$defs"]
LEAVES = st.sampled_from(["string", "object", "array", "#", "#/$defs/a", "^a+$", "a", 3, -1.5, None, True])
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "a"]), inner, max_size=4),
    max_leaves=15,
)


@given(SCHEMAS)
def test_any_schema_is_rewritten_in_valid_json_schema_or_refused(schema: Any) -> None:
    try:
        rewritten = safe_schema("schema", schema, Budget()).schema
    except InvalidRequest as refused:
        assert refused.message.startswith("schema")
        return
    jsonschema.Draft202012Validator.check_schema(rewritten)
    assert json.loads(json.dumps(rewritten)) == rewritten


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"$ref": f"#/anyOf/{index}"} for index in range(600)]},
        {
            "a": [STRING],
            "anyOf": [{"$ref": f"#/a/{zero}"} for zero in map(chr, range(0x660, 0x1D7FF)) if zero.isdecimal()],
        },
        {
            "$defs": {f"d{index}": {"items": {"$ref": f"#/$defs/d{index + 1}"}} for index in range(600)},
            "$ref": "#/$defs/d0",
        },
    ],
)
def test_references_cost_little_however_many_there_are(schema: Any) -> None:
    started = time.process_time()
    with contextlib.suppress(InvalidRequest):
        assert not safe_schema("schema", schema, Budget()).exact
    assert time.process_time() - started < 1
