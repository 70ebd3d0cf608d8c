"""JSON Schemas of a kilobyte or some that unfold to a million, by every road that leads there."""

import json
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
_DEEP = 20


def chained(make: Callable[[Schema], Schema], depth: int = _DEEP) -> Schema:
    """Definitions, each made of a reference to the next."""
    definitions = {f"d{at}": make({"$ref": f"#/$defs/d{at + 1}"}) for at in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{depth}": {"type": "integer"}}}


def _named(first: Schema, make: Callable[[int], Schema], last: Schema) -> Schema:
    return {**first, "$defs": {**{f"x{at}": make(at) for at in range(_DEEP)}, "last": last}}


BOMBS: dict[str, Schema] = {
    "allOf": chained(lambda to: {"allOf": [to, to]}),
    "anyOf": chained(lambda to: {"anyOf": [to, to]}),
    "oneOf": chained(lambda to: {"oneOf": [to, to]}),
    "not": chained(lambda to: {"allOf": [{"not": to}, {"not": to}]}),
    "if": chained(lambda to: {"if": to, "then": to, "else": to}),
    "properties": chained(lambda to: {"properties": {"a": to, "b": to}}),
    "items": chained(lambda to: {"prefixItems": [to, to], "items": to}),
    "dependentSchemas": chained(lambda to: {"dependentSchemas": {"a": to, "b": to}}),
    "patternProperties": chained(lambda to: {"patternProperties": {"^a": to, "b$": to}}),
    "beside a reference": chained(lambda to: {**to, "allOf": [to]}),
    "unevaluatedProperties": chained(
        lambda to: {"allOf": [to, to], "unevaluatedProperties": False}, depth=12
    ),
    "by anchors": _named(
        {"$ref": "#d0"},
        lambda at: {"$anchor": f"d{at}", "allOf": [{"$ref": f"#d{at + 1}"}] * 2},
        {"$anchor": f"d{_DEEP}", "type": "integer"},
    ),
    "by dynamic anchors": _named(
        {"$dynamicRef": "#d0"},
        lambda at: {"$dynamicAnchor": f"d{at}", "allOf": [{"$dynamicRef": f"#d{at + 1}"}] * 2},
        {"$dynamicAnchor": f"d{_DEEP}", "type": "integer"},
    ),
    "by ids": _named(
        {"$id": "http://a.example/root", "$ref": "d0.json"},
        lambda at: {
            "$id": f"http://a.example/d{at}.json",
            "allOf": [{"$ref": f"d{at + 1}.json"}] * 2,
        },
        {"$id": f"http://a.example/d{_DEEP}.json", "type": "integer"},
    ),
    "of draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "allOf": [{"$ref": "#/definitions/d0"}],
        "definitions": {
            **{
                f"d{at}": {"allOf": [{"$ref": f"#/definitions/d{at + 1}"}] * 2}
                for at in range(_DEEP)
            },
            f"d{_DEEP}": {"type": "integer"},
        },
    },
    "a long chain": chained(lambda to: {"allOf": [to]}, depth=300),
    "many large patterns": {
        "allOf": [{"pattern": f"(?:\\w{{{100 + at}}}){{90}}"} for at in range(1_500)]
    },
    "a pattern of patterns": {"pattern": "((((a{50}){50}){50}){50})"},
    "all values twice": {
        "allOf": [{"$ref": "#/$defs/values"}] * 100,
        "$defs": {"values": {"enum": list(range(5_000))}},
    },
}
"""By name. Each is refused."""

_BRANCHES = [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]


def growing(word: str) -> Schema:
    """A small tree of objects; what it costs doubles with each level of the value."""
    tree = {"type": "object", "properties": {"a": {word: _BRANCHES}}}
    return {"$ref": "#/$defs/n", "$defs": {"n": tree}}


def nested(depth: int, inmost: Any = None) -> Any:
    """A value as deep as that."""
    value = {} if inmost is None else inmost
    for _ in range(depth):
        value = {"a": value}
    return value


def document(schema: Schema) -> Any:
    """What a model would publish that has one input, `a`, of this schema."""
    moved = json.loads(json.dumps(schema).replace("#/$defs/", "#/components/schemas/"))
    definitions = moved.pop("$defs", {})
    given = {"type": "object", "properties": {"a": moved}}
    return {"components": {"schemas": {"Input": given, **definitions}}}
