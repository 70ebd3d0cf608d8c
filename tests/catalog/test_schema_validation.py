"""Checks by schemas from outside: in this process where they are cheap, else where they can die."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mediagate_server.catalog.planning.schema_validation import (
    MAX_SCHEMA_BYTES,
    SchemaValidator,
    is_cheap_check,
)
from mediagate_server.catalog.request import ResponseFormat
from mediagate_server.catalog.schemas.json_schema import cheap_steps
from mediagate_server.catalog.schemas.openapi import ModelSchema
from mediagate_server.errors import InvalidRequest, RateLimited
from mediagate_server.workers.worker_pool import WorkerPool

from .schema_bombs import BOMBS, document, growing, nested

FIELD = "response_format.json_schema"
NO_SCHEMA = {"a pattern of patterns", "of draft 7"}
"""Bombs that refer to nothing, or are none, within a model's document."""


@pytest.fixture
async def workers() -> AsyncIterator[WorkerPool]:
    async with WorkerPool() as pool:
        yield pool


@pytest.fixture
def checks(workers: WorkerPool) -> SchemaValidator:
    return SchemaValidator(workers)


def form(schema: dict[str, Any]) -> ResponseFormat:
    return ResponseFormat("json_schema", schema)


def model(given: dict[str, Any], **schemas: Any) -> ModelSchema:
    return ModelSchema({"components": {"schemas": {"Input": given, **schemas}}})


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"\A(?P<letters>[a-z]+)-\d\Z", "abc-1", "abc-1\n"),
        (r"a\\Z", r"a\Z", "a"),
        (r"^(?P<a>x)(?P=a)$", "xx", None),
        (r"^(x)\1$", "xx", None),
        (r"^(?!b)a", "a", None),
        (r"(?<=b)a", "ba", None),
        (r"(?>a)b", "ab", None),
        (r"^(?:a|b)$", "b", "c"),
    ],
)
def test_python_patterns_do_not_disable_a_schema(pattern: str, good: str, bad: str | None) -> None:
    """It is written as the checker has it, or left to the model; all else is checked by."""
    text = {"type": "string", "pattern": pattern, "nullable": True}
    schema = model({"type": "object", "properties": {"text": text, "pattern": {"type": "integer"}}})
    assert schema.problems({"text": good, "pattern": 1}) == {}
    assert schema.problems({"text": None}) == {}
    assert set(schema.problems({"text": good, "pattern": "x", "other": 1})) == {"pattern", "other"}
    assert set(schema.problems({"text": bad})) == ({"text"} if bad else set())
    assert schema.is_checkable


async def refused(checks: SchemaValidator, schema: dict[str, Any]) -> str:
    """Why a schema is refused, by the field."""
    with pytest.raises(InvalidRequest) as caught:
        await checks.check_response_format(form(schema), "one")
    (violation,) = caught.value.failure.violations
    assert violation.field == FIELD
    return violation.description


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nothing"}, "no JSON Schema at /type"),
        ({"$ref": "https://example.com/schema.json"}, "refers to another document"),
        ({"pattern": "("}, "no JSON Schema at /pattern"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "must have at most 65,536 bytes"),
    ],
)
async def test_an_unusable_schema_is_refused(
    checks: SchemaValidator, schema: dict[str, Any], why: str
) -> None:
    """Before anything is spent on an answer to it."""
    assert why in await refused(checks, schema)


@pytest.mark.parametrize("name", sorted(BOMBS))
async def test_an_expensive_schema_is_refused(checks: SchemaValidator, name: str) -> None:
    """By the name of the field, whatever it is made of."""
    assert await refused(checks, BOMBS[name])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}},
        {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}}}},
        {"type": "array", "uniqueItems": True, "minItems": 10**15},
        growing("allOf"),
    ],
)
async def test_a_schema_expensive_only_for_large_values_is_accepted(
    checks: SchemaValidator, schema: dict[str, Any]
) -> None:
    await checks.check_response_format(form(schema), "one")


async def test_a_small_plain_schema_needs_no_worker(checks: SchemaValidator) -> None:
    """The usual case costs no process."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    steps = cheap_steps(schema)
    assert is_cheap_check(steps, {"a": "b" * 1_000})
    assert not is_cheap_check(steps, ["a"] * 2_000)
    assert not is_cheap_check(steps, {"a": "b" * 2_000_000})


async def test_inputs_of_a_model_are_checked_by_its_own_schema(checks: SchemaValidator) -> None:
    """The same words, here or in a worker."""
    plain = model({"properties": {"a": {"type": "integer", "minimum": 3}}})
    dear = model({"properties": {"a": {"type": "integer", "minimum": 3}, "b": {"pattern": "b"}}})
    for schema in (plain, dear):
        await checks.prepare(schema, "one")
        assert schema.is_checkable
        for given, problems in (
            ({"a": 3}, {}),
            ({"a": 2}, {"a": "is under 3"}),
            ({"c": 2}, {"c": "is not an input of the model"}),
        ):
            assert await checks.input_problems(schema, given, "one") == problems
    assert (plain.cheap_steps is None, dear.cheap_steps is None) == (False, True)


@pytest.mark.parametrize("name", sorted(BOMBS))
async def test_a_model_with_an_expensive_schema_cannot_be_run(
    checks: SchemaValidator, name: str
) -> None:
    """Its name is what is wrong with the request. One that is no schema checks nothing."""
    schema = ModelSchema(document(BOMBS[name]))
    if name in NO_SCHEMA:
        await checks.prepare(schema, "one")
        assert not schema.is_checkable
        return
    with pytest.raises(InvalidRequest) as caught:
        await checks.prepare(schema, "one")
    (violation,) = caught.value.failure.violations
    assert (violation.field, violation.description) == ("model", schema.refusal)


async def test_an_input_too_expensive_to_validate_is_refused(checks: SchemaValidator) -> None:
    """By a schema that is harmless for usual inputs."""
    schema = ModelSchema(document(growing("oneOf")))
    await checks.prepare(schema, "one")
    with pytest.raises(InvalidRequest) as caught:
        await checks.input_problems(schema, nested(60), "one")
    (violation,) = caught.value.failure.violations
    assert violation.field == "input"


async def test_the_queue_of_a_tenant_is_full(checks: SchemaValidator) -> None:
    """Typed, with when to come back; others are served."""
    dear = form({"pattern": "a"})
    many = [checks.check_response_format(dear, "one") for _ in range(200)]
    *results, other = await asyncio.gather(
        *many, checks.check_response_format(dear, "another"), return_exceptions=True
    )
    refusals = [result for result in results if result is not None]
    assert 0 < len(refusals) < 200
    assert all(
        isinstance(refusal, RateLimited) and refusal.failure.retry_after for refusal in refusals
    )
    assert other is None
