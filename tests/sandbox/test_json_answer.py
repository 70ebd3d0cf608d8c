"""Answers in JSON: found where a text asks for them, and fitting what it asks for."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_sandbox.generators.json_answer import answer_for_schema, find_schema

from .sandbox_client import LLAMA, SandboxClient

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


@pytest.mark.parametrize(
    ("texts", "schema"),
    [
        (["Tell me of JSON."], None),
        (["Which schema has this database?"], None),
        (["Answer in JSON and nothing else."], {}),
        (["Be brief.", f"JSON Schema:\n{json.dumps(POINT)}\nThanks."], POINT),
        (["The JSON schema {is broken"], None),
        ([], None),
    ],
)
def test_prompts_that_ask_for_json(texts: list[str], schema: dict[str, Any] | None) -> None:
    """By the words that every prompt of the kind has; talk about JSON is no such prompt."""
    assert find_schema(texts) == schema


def numbers(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Numbers from here, to there, between."""
    low, high = st.integers(-50, 0), st.integers(1, 50)
    bounds = st.fixed_dictionaries({}, optional={"minimum": low, "maximum": high})
    over = st.fixed_dictionaries({"exclusiveMinimum": low}, optional={"maximum": high})
    return (bounds | over).map(lambda bounds_of_value: {"type": kind, **bounds_of_value})


SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["string", "null"]},
            {"enum": ["a", 1, None]},
            {"const": {"a": [1]}},
            {"$ref": "#/$defs/word"},
            {"allOf": [{"type": "string"}, {"maxLength": 3}]},
        ]
    )
    | numbers("integer")
    | numbers("number")
    | st.builds(lambda least: {"type": "string", "minLength": least}, st.integers(0, 20)),
    lambda inner: (
        st.builds(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
            st.dictionaries(st.text(max_size=5), inner, max_size=3),
        )
        | st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least},
            inner,
            st.integers(0, 3),
        )
        | st.builds(lambda left, right: {"anyOf": [left, right]}, inner, inner)
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.integers())
def test_answers_match_the_schema(schema: dict[str, Any], seed: int) -> None:
    """By the judgement of a validator of others."""
    schema_with_definitions = {**schema, "$defs": {"word": {"type": "string", "maxLength": 2}}}
    jsonschema.validate(
        json.loads(answer_for_schema(schema_with_definitions, Random(seed))),
        schema_with_definitions,
    )


async def test_a_model_answers_in_json(sandbox_client: SandboxClient) -> None:
    """In tokens, as it streams everything; directives still go first."""
    prompt = f"A point, please. JSON Schema: {json.dumps(POINT)}"
    prediction = await sandbox_client.ran(LLAMA, {"prompt": prompt})
    assert len(prediction["output"]) > 1
    jsonschema.validate(json.loads("".join(prediction["output"])), POINT)
    said = await sandbox_client.ran(LLAMA, {"prompt": f"{prompt} [[say=No.]]"})
    assert said["output"] == ["No."]
