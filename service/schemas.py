"""JSON schemas of callers, rewritten in the part of JSON Schema that an answer can be held to.

The engine gets no keyword that isn't understood here, so that an answer fits all that was asked, and costs no more than
is counted here: llama.cpp's converter passes over some, and follows others for seconds a token. What can't be kept is
refused, by its keyword.
"""

import math
import re
from typing import Any
from urllib.parse import unquote

from service.errors import InvalidRequest
from service.known_patterns import FORMATS
from service.parsing import shown
from service.patterns import BadPattern, safe_pattern
from service.schema_ends import can_end

Schema = dict[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
ANY: Schema = {"anyOf": [{"type": name} for name in TYPES if name != "integer"]}
MAX_COST = 4000  # see _spend
ENUM_COST = 8  # so 500 values: with 1,500, llama-server takes 1.5 s of CPU more for each token
MAX_COUNT = 2000  # of items or characters: llama.cpp's grammars repeat nothing more often
MAX_LEVELS = 16
MAX_OPTIONAL = 64  # properties of an object that may be left out: the grammar grows with their square
MAX_NAME = 128
MAX_REFERENCES = 128
INDEX = re.compile("0|[1-9][0-9]{0,5}")
MAX_INTEGER = 2**53 - 1  # what JSON's readers agree on
GRAMMAR_FORMATS = ("date", "time", "date-time", "uuid")
REFUSED = (
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "patternProperties", "dependencies"),
    *("dependentRequired", "dependentSchemas", "minProperties", "maxProperties", "$dynamicRef", "$recursiveRef"),
)
# What each type is told by where `type` is missing; also what may not stand beside anyOf, enum and the like.
OF_TYPE = {
    "object": ("properties", "required", "additionalProperties", "propertyNames", "unevaluatedProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
CHOICES = ("$ref", "anyOf", "oneOf", "allOf", "enum", "const")
NARROWING = (*(word for words in OF_TYPE.values() for word in words if word != "format"), *CHOICES)


def safe_schema(field: str, schema: Any) -> Schema:
    """Return a schema that the engine can hold an answer to, and that every answer to it fits `schema`.

    Not held to are a number's bounds, multipleOf, uniqueItems, and formats other than those in docs/api.md. Raises
    InvalidRequest, which names the keyword at fault.
    """
    return _Rewriter(field, schema).result()


class _Rewriter:
    """Rewrites one schema with its definitions."""

    def __init__(self, field: str, schema: Any) -> None:
        self._field, self._root, self._cost = field, schema, 0
        self._names: dict[str, str] = {}  # by reference
        self._definitions: dict[str, Schema] = {}

    def result(self) -> Schema:
        schema = self._schema(self._root, self._field)
        while len(self._definitions) < len(self._names):  # definitions name others
            for reference, name in list(self._names.items())[len(self._definitions) :]:
                self._definitions[name] = self._schema(*self._target(reference))
        if not can_end(schema, self._definitions):
            raise self._refuse(f"{self._field}.$ref", "refers to itself, so that no answer ends")
        while "$ref" in schema:  # a schema that is nothing but a reference, to the root of which others refer
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def _refuse(self, where: str, why: str) -> InvalidRequest:
        return InvalidRequest(f"{where}: {why}", hint="docs/api.md lists what an answer can be held to")

    def _spend(self, where: str, cost: int) -> None:
        """Count what the grammar grows by: its rules, and every repetition unrolled."""
        self._cost += cost
        if self._cost > MAX_COST:
            raise self._refuse(where, f"makes the schema too large; {MAX_COST} values and repetitions are allowed")

    def _schema(self, schema: Any, where: str, level: int = 0) -> Schema:
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise self._refuse(where, "must be a JSON schema, as an object")
        if level > MAX_LEVELS:
            raise self._refuse(where, f"is nested too deeply; at most {MAX_LEVELS} levels are allowed")
        self._spend(where, 1)
        for word in REFUSED:
            if word in schema:
                raise self._refuse(f"{where}.{word}", "is not supported")
        chosen = [word for word in CHOICES if word in schema]
        if not chosen:
            return self._typed(schema, where, level)
        beside = [word for word in NARROWING if word in schema and word != chosen[0]]
        if beside:
            raise self._refuse(f"{where}.{beside[0]}", f"is not supported beside {chosen[0]}")
        return self._choice(chosen[0], schema, where, level)

    def _choice(self, word: str, schema: Schema, where: str, level: int) -> Schema:
        value, here = schema[word], f"{where}.{word}"
        types = self._types(schema, where) if "type" in schema else []
        if word == "$ref":
            return {"$ref": f"#/$defs/{self._name(value, here)}"}
        if word in ("enum", "const"):
            return {"enum": self._values([value] if word == "const" else value, types, here)}
        if not isinstance(value, list) or not value:
            raise self._refuse(here, "must be a list of JSON schemas")
        if word == "allOf" and len(value) > 1:
            raise self._refuse(here, "of more than one schema is not supported")
        inner = [self._with_type(each, schema) for each in value]
        schemas = [self._schema(each, f"{here}[{i}]", level + 1) for i, each in enumerate(inner)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    @staticmethod
    def _with_type(inner: Any, outer: Schema) -> Any:
        """Return an alternative with the type that stands beside all of them, unless it has its own."""
        known = not isinstance(inner, dict) or any(word in inner for word in ("type", *CHOICES))
        return inner if known or "type" not in outer else {"type": outer["type"], **inner}

    def _values(self, values: Any, types: list[str], where: str) -> list[Any]:
        if not isinstance(values, list) or not values:
            raise self._refuse(where, "must be a list of values")
        for value in values:
            if isinstance(value, dict | list):
                raise self._refuse(where, "has a value that is a list or an object, which is not supported")
            self._spend(where, ENUM_COST + (len(value) // 8 if isinstance(value, str) else 0))
        fitting = [value for value in values if not types or any(_is(value, name) for name in types)]
        if not fitting:
            raise self._refuse(where, "has no value of its type")
        return fitting

    def _types(self, schema: Schema, where: str) -> list[str]:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not names or any(name not in TYPES for name in names if isinstance(name, str)):
            raise self._refuse(f"{where}.type", f"must be one of {', '.join(TYPES)}")
        if not all(isinstance(name, str) for name in names):
            raise self._refuse(f"{where}.type", "must be a name, or a list of names")
        return list(dict.fromkeys(names))

    def _typed(self, schema: Schema, where: str, level: int) -> Schema:
        if "type" in schema:
            names = self._types(schema, where)
        else:
            names = [name for name, words in OF_TYPE.items() if any(word in schema for word in words)][:1]
        write = {"object": self._object, "array": self._array, "string": self._string, "integer": self._integer}
        schemas = [write[name](schema, where, level) if name in write else {"type": name} for name in names]
        if "number" in names:
            self._bounds(schema, where, ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
        return {"anyOf": schemas} if len(schemas) > 1 else schemas[0] if schemas else ANY

    def _object(self, schema: Schema, where: str, level: int) -> Schema:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict):
            raise self._refuse(f"{where}.properties", "must be an object of JSON schemas")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise self._refuse(f"{where}.required", "must be a list of names")
        if missing := [name for name in required if name not in properties]:
            raise self._refuse(f"{where}.required", f"names {shown(missing[0])!r}, which is no property")
        names = schema.get("propertyNames")
        if names not in (None, True, {}, {"type": "string"}):
            raise self._refuse(f"{where}.propertyNames", "is not supported")
        if len(properties) - len(set(required)) > MAX_OPTIONAL:
            message = f"has more than {MAX_OPTIONAL} that are not required; at most that many are allowed"
            raise self._refuse(f"{where}.properties", message)
        inner = {
            self._property(name, where): self._schema(each, f"{where}.properties.{shown(name)}", level + 1)
            for name, each in properties.items()
        }
        more = schema.get("additionalProperties", True)
        if inner or more is False:  # no more properties than are named fits whatever may be added
            return {"type": "object", "properties": inner, "required": required, "additionalProperties": False}
        if more is True:
            return {"type": "object"}
        extra = self._schema(more, f"{where}.additionalProperties", level + 1)
        return {"type": "object", "additionalProperties": extra}

    def _property(self, name: str, where: str) -> str:
        if not name or len(name) > MAX_NAME or name == "$ref":
            raise self._refuse(f"{where}.properties", f"has the name {shown(name)!r}, which is not supported")
        self._spend(f"{where}.properties", 1 + len(name) // 8)
        return name

    def _array(self, schema: Schema, where: str, level: int) -> Schema:
        low, high = self._counts(schema, where, "minItems", "maxItems")
        if "prefixItems" in schema:
            return self._tuple(schema, where, level, low, high)
        limits = {"minItems": low} if low else {}
        if high is not None:
            limits["maxItems"] = high
        self._spend(where, 3 * (low if high is None else high))
        if high == 0:
            return {"enum": [[]]}
        items = self._schema(schema.get("items", True), f"{where}.items", level + 1)
        return {"type": "array", "items": items, **limits}

    def _tuple(self, schema: Schema, where: str, level: int, low: int, high: int | None) -> Schema:
        prefix = schema["prefixItems"]
        if not isinstance(prefix, list) or not prefix:
            raise self._refuse(f"{where}.prefixItems", "must be a list of JSON schemas")
        if low > len(prefix) or (high is not None and high < len(prefix)):
            raise self._refuse(f"{where}.prefixItems", "must have as many schemas as minItems and maxItems allow items")
        items = [self._schema(each, f"{where}.prefixItems[{i}]", level + 1) for i, each in enumerate(prefix)]
        return {"type": "array", "prefixItems": items}

    def _string(self, schema: Schema, where: str, _level: int) -> Schema:
        low, high = self._counts(schema, where, "minLength", "maxLength")
        known = schema.get("format")
        if not isinstance(known, str | None):
            raise self._refuse(f"{where}.format", "must be a name")
        here = f"{where}.pattern" if "pattern" in schema else f"{where}.format"
        pattern = schema.get("pattern", FORMATS.get(known or ""))
        if pattern is not None:
            return self._pattern(pattern, here, where, (low, high))
        if known in GRAMMAR_FORMATS and not low and high is None:
            return {"type": "string", "format": known}
        self._spend(where, low if high is None else high)
        limits = {"minLength": low} if low else {}
        return {"type": "string", **limits, **({} if high is None else {"maxLength": high})}

    def _pattern(self, pattern: Any, here: str, where: str, lengths: tuple[int, int | None]) -> Schema:
        if not isinstance(pattern, str):
            raise self._refuse(here, "must be a regular expression, as text")
        try:
            safe = safe_pattern(pattern)
        except BadPattern as bad:
            raise self._refuse(here, str(bad)) from None
        self._spend(here, safe.states)
        low, high = lengths
        if safe.shortest < low:
            raise self._refuse(f"{where}.minLength", "is not supported beside a pattern that shorter texts fit")
        if high is not None and safe.longest > high:
            raise self._refuse(f"{where}.maxLength", "is not supported beside a pattern that longer texts fit")
        return {"type": "string", "pattern": safe.text} if safe.longest else {"enum": [""]}

    def _counts(self, schema: Schema, where: str, least: str, most: str) -> tuple[int, int | None]:
        """Return two bounds, which must be whole numbers in order."""
        for word in (least, most):
            value = schema.get(word)
            if value is not None and not (_is(value, "integer") and 0 <= value <= MAX_COUNT):
                raise self._refuse(f"{where}.{word}", f"must be a whole number from 0 to {MAX_COUNT}")
        low, high = int(schema.get(least) or 0), schema.get(most)
        if high is not None and low > high:
            raise self._refuse(f"{where}.{least}", f"is above {most}")
        return low, None if high is None else int(high)

    def _integer(self, schema: Schema, where: str, _level: int) -> Schema:
        low, high = self._bounds(schema, where, ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
        if low is None and high is None:
            return {"type": "integer"}
        least, most = math.ceil(-MAX_INTEGER if low is None else low), math.floor(MAX_INTEGER if high is None else high)
        least += "exclusiveMinimum" in schema and least == schema["exclusiveMinimum"]
        most -= "exclusiveMaximum" in schema and most == schema["exclusiveMaximum"]
        least, most = max(least, -MAX_INTEGER), min(most, MAX_INTEGER)
        word = next(word for word in OF_TYPE["number"] if word in schema)
        if least > most:
            raise self._refuse(f"{where}.{word}", f"leaves no whole number of at most {MAX_INTEGER}")
        self._spend(where, 20)
        return {"type": "integer", "minimum": least, "maximum": most}

    def _bounds(
        self, schema: Schema, where: str, least: tuple[str, str], most: tuple[str, str]
    ) -> tuple[float | None, float | None]:
        for word in (*least, *most):
            if word in schema and not _is(schema[word], "number"):
                raise self._refuse(f"{where}.{word}", "must be a number")
        low = max((schema[word] for word in least if word in schema), default=None)
        high = min((schema[word] for word in most if word in schema), default=None)
        if low is not None and high is not None and low > high:
            word = next(word for word in least if word in schema)
            raise self._refuse(f"{where}.{word}", "is above the maximum")
        return low, high

    def _name(self, reference: Any, where: str) -> str:
        if not isinstance(reference, str) or not reference.startswith("#") or reference[1:2] not in ("", "/"):
            raise self._refuse(where, "must begin with #/; nothing is fetched")
        if reference not in self._names:
            self._target(reference, where)
            if len(self._names) >= MAX_REFERENCES:
                raise self._refuse(where, f"is one of too many; at most {MAX_REFERENCES} definitions are allowed")
            self._names[reference] = f"d{len(self._names)}"
        return self._names[reference]

    def _target(self, reference: str, where: str = "") -> tuple[Any, str]:
        """Return what a reference means, and its place."""
        target = self._root
        steps = [unquote(step).replace("~1", "/").replace("~0", "~") for step in reference.split("/")[1:]]
        for step in steps:
            if isinstance(target, list) and INDEX.fullmatch(step) and int(step) < len(target):
                target = target[int(step)]
            elif isinstance(target, dict) and step in target:
                target = target[step]
            else:
                raise self._refuse(where, f"{shown(reference)!r} is nowhere in the schema")
        return target, ".".join([self._field, *map(shown, steps)])


def _is(value: Any, name: str) -> bool:
    """Say whether a value is of JSON Schema's type `name`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "string": isinstance(value, str),
        "null": value is None,
        "boolean": isinstance(value, bool),
        "number": number,
        "integer": number and float(value).is_integer(),
    }.get(name, False)
