"""The unfolded size of schemas: counted to a bound, by every road that references take."""

from typing import Any

import pytest

from mediagate_server.catalog.schemas.json_schema import (
    MAX_STEPS,
    SchemaTooComplex,
    cheap_steps,
    measure_schema,
)

from .schema_bombs import BOMBS, chained

COUNTABLE = BOMBS.keys() - {"unevaluatedProperties", "many large patterns", "a pattern of patterns"}
"""The rest costs more than it looks like: for that there is the limit of time."""


@pytest.mark.parametrize("name", sorted(COUNTABLE))
def test_an_expensive_schema_is_too_complex(name: str) -> None:
    """In a number of steps that is bounded itself."""
    with pytest.raises(SchemaTooComplex):
        measure_schema(BOMBS[name], MAX_STEPS)


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_expensive_schemas_are_not_harmless(name: str) -> None:
    assert cheap_steps(BOMBS[name]) is None


@pytest.mark.parametrize(
    ("schema", "steps"),
    [
        ({}, 1),
        ({"type": "integer"}, 2),
        ({"enum": [1, 2, 3]}, 5),
        ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, 6),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "string"}, "b": {}}}, 7),
        ({"additionalProperties": False}, 2),
        (chained(lambda to: {"anyOf": [to, {"type": "null"}]}, depth=2), 17),
    ],
)
def test_a_common_schema_is_harmless_and_counted(schema: dict[str, Any], steps: int) -> None:
    """Each schema and each keyword is a step, and each value of a list of values."""
    assert cheap_steps(schema) == steps


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "a"},
        {"uniqueItems": True},
        {"contains": {"const": 1}},
        {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}}}},
        {"$ref": "#"},
        {"$ref": "http://a.example/b"},
        {"$id": "http://a.example/b"},
        {"unevaluatedProperties": {"type": "string"}},
        {"if": {}, "then": {}},
    ],
)
def test_potentially_expensive_keywords_are_not_harmless(schema: dict[str, Any]) -> None:
    """Recursion, patterns, comparisons of all with all, and what is not seen from here."""
    assert cheap_steps(schema) is None
    measure_schema(schema, MAX_STEPS)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": 5},
        {"allOf": 5, "properties": [], "items": None, "enum": "a"},
        {"$ref": "#/$defs/%zz~2/0/x", "$defs": []},
        {"allOf": [{"$ref": "#/allOf/0"}, {"$ref": "#/allOf/99999999999"}]},
        {"$id": 7, "$anchor": [], "$ref": "#a"},
    ],
)
def test_invalid_schemas_are_counted_too(schema: dict[str, Any]) -> None:
    """That it is none is for others to say."""
    assert measure_schema(schema, MAX_STEPS).steps > 0
