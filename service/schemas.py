"""JSON schemas of callers, rewritten in the subset of JSON Schema that the engine's grammar can enforce.

The engine gets no keyword that isn't understood here, so that an answer costs no more than is counted here: llama.cpp's
converter ignores some, and with others takes seconds per token. What the grammar can't enforce is left out, and the
answer is checked (see fitting.py). An invalid schema is refused with an error that names the keyword.
"""

import math
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from service.complaints import shown
from service.errors import InvalidRequest
from service.grammar_budget import Budget
from service.known_patterns import FORMATS, KNOWN
from service.schema_ends import can_end

Schema = dict[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
ANY: Schema = {"anyOf": [{"type": name} for name in TYPES if name != "integer"]}
ENUM_COST = 8  # of a value: with 1,500 of them, llama-server takes 1.5 s more CPU time per token
MAX_VALUES = 500
MAX_COUNT = 1999  # of items or characters: the most repetitions in llama.cpp's grammars
MAX_LEVELS = 16
MAX_OPTIONAL = 64  # optional properties of an object: the grammar grows with their square
MAX_NAME = 128
MAX_REFERENCES = 128  # in different spellings
INDEX = re.compile("0|[1-9][0-9]{0,5}")
MAX_INTEGER = 2**53 - 1  # the largest that all JSON parsers agree on
# The formats that jsonschema-rs checks and no grammar enforces.
CHECKED_FORMATS = (
    *("idn-email", "idn-hostname", "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uri-template", "regex"),
    *("json-pointer", "relative-json-pointer"),
)
GRAMMAR_FORMATS = ("date", "time", "date-time", "uuid")
UNHELD = {
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "patternProperties", "dependencies"),
    *("dependentRequired", "dependentSchemas", "minProperties", "maxProperties", "$dynamicRef", "$recursiveRef"),
    *("multipleOf", "uniqueItems", "unevaluatedItems"),
}
# The keywords that imply a type if `type` is missing; they can't be combined with anyOf, enum and the like.
OF_TYPE = {
    "object": ("properties", "required", "additionalProperties", "propertyNames", "unevaluatedProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
CHOICES = ("$ref", "anyOf", "oneOf", "allOf", "enum", "const")
TYPED = {word for words in OF_TYPE.values() for word in words if word != "format"}


@dataclass(frozen=True)
class Grammar:
    """A schema that the engine can enforce. exact: whatever fits it fits the caller's schema too."""

    schema: Schema
    exact: bool


def safe_schema(field: str, schema: Any, budget: Budget, prefix: str = "") -> Grammar:
    """Return the part of a schema that the engine can enforce, within the budget of its request.

    prefix: of its definitions' names.
    Raises InvalidRequest, which names the keyword at fault, for an invalid schema, or one that nothing fits.
    """
    rewriter = _Rewriter(field, schema, budget, prefix)
    return Grammar(rewriter.result(), rewriter.exact)


class _Rewriter:
    """Rewrites one schema with its definitions; `exact` becomes false if something is left out."""

    def __init__(self, field: str, schema: Any, budget: Budget, prefix: str) -> None:
        self._field, self._root, self._budget, self._prefix = field, schema, budget, prefix
        self.exact = True
        self._names: dict[str, str] = {}  # by reference
        self._targets: dict[int, tuple[str, Any, str]] = {}  # name, schema and path, by the schema's identity
        self._definitions: dict[str, Schema] = {}

    def result(self) -> Schema:
        schema = self._schema(self._root, self._field)
        while len(self._definitions) < len(self._targets):  # definitions may refer to others
            for name, target, where in list(self._targets.values())[len(self._definitions) :]:
                self._definitions[name] = self._schema(target, where)
        if self._targets and not can_end(schema, self._definitions):
            raise self._refuse(f"{self._field}.$ref", "refers to itself, so that no answer ends")
        while "$ref" in schema:  # a schema that only refers to a definition, while others refer to its root
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def _refuse(self, where: str, why: str) -> InvalidRequest:
        return InvalidRequest(f"{where}: {why}", hint="it must be a JSON schema, as docs/api.md has it")

    def _loosened(self, schema: Schema) -> Schema:
        """Return a schema that is less strict than the caller's."""
        self.exact = False
        return schema

    def _affords(self, cost: int) -> bool:
        affords = self._budget.spend(cost)
        self.exact = self.exact and affords
        return affords

    def _schema(self, schema: Any, where: str, level: int = 0) -> Schema:
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise self._refuse(where, "must be a JSON schema, as an object")
        if level > MAX_LEVELS or not self._affords(1):
            return self._loosened(ANY)
        chosen = [word for word in CHOICES if word in schema]
        typed = not TYPED.isdisjoint(schema)
        if not UNHELD.isdisjoint(schema) or len(chosen) + typed > 1:
            self.exact = False  # of several constraints on a value, one is enforced in full
        listed = next((word for word in ("const", "enum") if word in schema), None)
        if (typed or not chosen) and not listed:
            return self._typed(schema, where, level)
        return self._choice(listed or chosen[0], schema, where, level)

    def _choice(self, word: str, schema: Schema, where: str, level: int) -> Schema:
        value, here = schema[word], f"{where}.{word}"
        types = self._types(schema, where) if "type" in schema else []
        if word == "$ref":
            name = self._name(value, here)
            return {"$ref": f"#/$defs/{name}"} if name else self._loosened(ANY)
        if word in ("enum", "const"):
            return self._values([value] if word == "const" else value, types, here)
        if not isinstance(value, list) or not value:
            raise self._refuse(here, "must be a list of JSON schemas")
        if len(value) > 1 and word != "anyOf":
            self.exact = False  # an answer may fit more than one alternative, or not all of them
        if word != "allOf" and not self._budget.has(len(value)):  # one of them would allow any answer
            return self._loosened(ANY)
        inner = [self._with_type(each, schema) for each in (value[:1] if word == "allOf" else value)]
        schemas = [self._schema(each, f"{here}[{i}]", level + 1) for i, each in enumerate(inner)]
        return schemas[0] if len(schemas) == 1 else ANY if ANY in schemas else {"anyOf": schemas}

    @staticmethod
    def _with_type(inner: Any, outer: Schema) -> Any:
        """Return an alternative with the type next to the alternatives, unless it has its own."""
        known = not isinstance(inner, dict) or any(word in inner for word in ("type", *CHOICES))
        return inner if known or "type" not in outer else {"type": outer["type"], **inner}

    def _values(self, values: Any, types: list[str], where: str) -> Schema:
        if not isinstance(values, list) or not values:
            raise self._refuse(where, "must be a list of values")
        if len(values) > MAX_VALUES:
            return self._loosened(ANY)
        fitting = [value for value in values if not types or any(_is(value, name) for name in types)]
        if not fitting:
            raise self._refuse(where, "has no value of its type")
        if any(isinstance(value, dict | list) for value in fitting):
            return self._loosened(ANY)
        cost = sum(ENUM_COST + (len(value) // 8 if isinstance(value, str) else 0) for value in fitting)
        return {"enum": fitting} if self._affords(cost) else self._loosened(ANY)

    def _types(self, schema: Schema, where: str) -> list[str]:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if len(names) > len(TYPES):
            raise self._refuse(f"{where}.type", "must name each type at most once")
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
        if len(names) > 1 and not self._affords(len(names) - 1):
            return self._loosened(ANY)
        write = {"object": self._object, "array": self._array, "string": self._string, "integer": self._integer}
        schemas = [write[name](schema, where, level) if name in write else {"type": name} for name in names]
        if "number" in names:
            bounds = self._bounds(schema, where, ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
            self.exact = self.exact and bounds == (None, None)
        return {"anyOf": schemas} if len(schemas) > 1 else schemas[0] if schemas else ANY

    def _object(self, schema: Schema, where: str, level: int) -> Schema:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict):
            raise self._refuse(f"{where}.properties", "must be an object of JSON schemas")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise self._refuse(f"{where}.required", "must be a list of names")
        names = schema.get("propertyNames", True)
        if names not in (True, {}, {"type": "string"}) or "unevaluatedProperties" in schema:
            self.exact = False
        unnamed = any(name not in properties for name in required)
        many = len(properties) - len(set(required)) > MAX_OPTIONAL
        if unnamed or many or not all(map(self._is_name, properties)):
            return self._loosened({"type": "object"})
        inner = {
            name: self._schema(each, f"{where}.properties.{shown(name)}", level + 1)
            for name, each in properties.items()
        }
        more = schema.get("additionalProperties", True)
        if inner or more is False:  # an answer without additional properties always fits
            return {"type": "object", "properties": inner, "required": required, "additionalProperties": False}
        if more is True:
            return {"type": "object"}
        extra = self._schema(more, f"{where}.additionalProperties", level + 1)
        return {"type": "object", "additionalProperties": extra}

    def _is_name(self, name: str) -> bool:
        return bool(name) and len(name) <= MAX_NAME and name != "$ref" and self._affords(1 + len(name) // 8)

    def _array(self, schema: Schema, where: str, level: int) -> Schema:
        low, high = self._counts(schema, where, "minItems", "maxItems")
        if "prefixItems" in schema:
            return self._tuple(schema, where, level, low, high)
        if high == 0:
            return {"enum": [[]]}
        items = self._schema(schema.get("items", True), f"{where}.items", level + 1)
        return {"type": "array", "items": items, **self._limits(3, "minItems", low, "maxItems", high)}

    def _limits(self, cost: int, least: str, low: int, most: str, high: int | None) -> Schema:
        """Return the bounds that the grammar can afford to enforce, since it unrolls repetitions."""
        if not self._affords(cost * (low if high is None else high)):
            return {}
        return {**({least: low} if low else {}), **({} if high is None else {most: high})}

    def _tuple(self, schema: Schema, where: str, level: int, low: int, high: int | None) -> Schema:
        prefix = schema["prefixItems"]
        if not isinstance(prefix, list) or not prefix:
            raise self._refuse(f"{where}.prefixItems", "must be a list of JSON schemas")
        if low > len(prefix) or (high is not None and high < len(prefix)) or not self._affords(len(prefix)):
            return self._loosened({"type": "array", "items": ANY})
        items = [self._schema(each, f"{where}.prefixItems[{i}]", level + 1) for i, each in enumerate(prefix)]
        return {"type": "array", "prefixItems": items}

    def _string(self, schema: Schema, where: str, _level: int) -> Schema:
        low, high = self._counts(schema, where, "minLength", "maxLength")
        known = schema.get("format")
        if not isinstance(known, str | None):
            raise self._refuse(f"{where}.format", "must be a name")
        pattern = schema.get("pattern", FORMATS.get(known or ""))
        if not isinstance(pattern, str | None):
            raise self._refuse(f"{where}.pattern", "must be a regular expression, as text")
        if "pattern" in schema and known and pattern not in KNOWN:
            self.exact = False
        if pattern is not None and (held := self._pattern(pattern, low, high)):
            return held
        if known in GRAMMAR_FORMATS and not low and high is None:
            return {"type": "string", "format": known}
        self.exact = self.exact and pattern is None and known not in CHECKED_FORMATS
        return {"type": "string", **self._limits(1, "minLength", low, "maxLength", high)}

    def _pattern(self, pattern: str, low: int, high: int | None) -> Schema | None:
        """Return a schema that enforces a pattern and the lengths next to it; None if a grammar can't."""
        safe = self._budget.pattern(pattern)
        if safe is None:
            return None
        if safe.shortest < low or (high is not None and safe.longest > high) or not self._affords(safe.states):
            return None
        return {"type": "string", "pattern": safe.text} if safe.longest else {"enum": [""]}

    def _counts(self, schema: Schema, where: str, least: str, most: str) -> tuple[int, int | None]:
        """Return two bounds, which must be whole numbers in order, without those that are too large for a grammar."""
        for word in (least, most):
            value = schema.get(word, 0)
            if not (_is(value, "integer") and value >= 0):
                raise self._refuse(f"{where}.{word}", "must be a whole number of at least 0")
        low, high = int(schema.get(least, 0)), schema.get(most)
        if high is not None and low > high:
            raise self._refuse(f"{where}.{least}", f"is above {most}")
        if max(low, high or 0) > MAX_COUNT:
            self.exact = False
        return 0 if low > MAX_COUNT else low, None if high is None or high > MAX_COUNT else int(high)

    def _integer(self, schema: Schema, where: str, _level: int) -> Schema:
        low, high = self._bounds(schema, where, ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
        if low is None and high is None:
            return {"type": "integer"}
        least, most = math.ceil(-MAX_INTEGER if low is None else low), math.floor(MAX_INTEGER if high is None else high)
        least += "exclusiveMinimum" in schema and least == schema["exclusiveMinimum"]
        most -= "exclusiveMaximum" in schema and most == schema["exclusiveMaximum"]
        if least > most and low is not None and high is not None:
            word = next(word for word in OF_TYPE["number"] if word in schema)
            raise self._refuse(f"{where}.{word}", "leaves no whole number")
        if least < -MAX_INTEGER or most > MAX_INTEGER or least > most or not self._affords(20):
            return self._loosened({"type": "integer"})
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

    def _name(self, reference: Any, where: str) -> str | None:
        """Return the name of the definition that a reference means; None if there are too many."""
        if not isinstance(reference, str) or not reference.startswith("#") or reference[1:2] not in ("", "/"):
            raise self._refuse(where, "must begin with #/; nothing is fetched")
        if reference not in self._names:
            if len(self._names) >= MAX_REFERENCES or not self._affords(len(reference) // 32):
                return None
            target, path = self._target(reference, where)
            definition = f"{self._prefix}d{len(self._targets)}", target, path
            self._names[reference] = self._targets.setdefault(id(target), definition)[0]
        return self._names[reference]

    def _target(self, reference: str, where: str) -> tuple[Any, str]:
        """Return the schema that a reference means, and its path."""
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
    """Say whether a value has JSON Schema's type `name`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "string": isinstance(value, str),
        "null": value is None,
        "boolean": isinstance(value, bool),
        "number": number,
        "integer": number and float(value).is_integer(),
    }.get(name, False)
