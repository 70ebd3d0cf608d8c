"""A small schema is unfolded and compiled once, however often it is asked for."""

import json

import pytest

from mediagate_server.catalog.schemas import json_schema
from mediagate_server.catalog.schemas.json_schema import SchemaError
from mediagate_server.generations.outputs.json_output import read_json


def test_a_small_schema_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.dumps({"title": "once", "properties": {"a": {"type": "string"}}})
    assert json_schema.cheap_schema(schema)
    monkeypatch.setattr(json_schema, "cheap_steps", None)
    assert read_json('{"a": "b"}', schema).text == '{"a": "b"}'
    assert read_json('{"a": 1}', schema).problem


def test_a_long_schema_is_not_cached() -> None:
    before = json_schema._compile_cheap_cached.cache_info().currsize
    assert json_schema.cheap_schema(json.dumps({"title": "x" * 5_000}))
    assert json_schema._compile_cheap_cached.cache_info().currsize == before


def test_an_invalid_schema_is_none_each_time() -> None:
    for _ in range(2):
        with pytest.raises(SchemaError):
            json_schema.cheap_schema('{"type": 7}')
