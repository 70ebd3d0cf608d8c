"""JSON Schemas from strangers: checked by, never obeyed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.catalog.schemas.json_schema import (
    MAX_PROBLEMS,
    CompiledSchema,
    SchemaError,
    SchemaProblem,
)
from mediagate_server.catalog.schemas.openapi import ModelSchema


@pytest.mark.parametrize(
    ("schema", "value", "problems"),
    [
        ({"type": "integer"}, 5, {}),
        ({"type": "integer"}, 5.0, {}),
        ({"type": "integer"}, 5.5, {(): "is not of type integer"}),
        ({"type": ["string", "null"]}, 5, {(): "is not of type null, string"}),
        ({"enum": ["a", "b"]}, "c", {(): "is not one of a, b"}),
        ({"minimum": 3}, 2, {(): "is under 3"}),
        ({"exclusiveMaximum": 3}, 3, {(): "is not under 3"}),
        ({"required": ["a"]}, {}, {("a",): "is required"}),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"a": 1, "b": 2},
            {("b",): "is not known"},
        ),
        (
            {"items": {"properties": {"a": {"type": "string"}}}},
            [{}, {"a": 1}],
            {(1, "a"): "is not of type string"},
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, {(): "is not as the schema has it"}),
        ({"pattern": "^a$"}, "b", {(): "does not match the pattern"}),
    ],
)
def test_problems_have_a_path_and_a_message(
    schema: dict[str, Any], value: Any, problems: dict[Any, str]
) -> None:
    """Each by its place, in words that say what would do."""
    assert {
        problem.path: problem.message for problem in CompiledSchema(schema).problems(value)
    } == problems


def test_the_number_of_problems_is_limited() -> None:
    """Of a long list of wrong items a few are told, of a very long one the first."""
    schema = CompiledSchema({"items": {"type": "string"}})
    assert len(schema.problems([1] * 400)) == MAX_PROBLEMS
    assert schema.problems([1] * 1_000_000) == (SchemaProblem((0,), "is not of type string"),)


def test_long_keys_and_paths_are_truncated_in_messages() -> None:
    """They come from outside as well, and go into errors."""
    (problem,) = CompiledSchema({"additionalProperties": {"type": "string"}}).problems(
        {"k" * 50_000: 1}
    )
    assert problem.path == ("k" * 120 + "...",)
    deep: object = 1
    for _ in range(100):
        deep = {"a": deep}
    schema = {"$defs": {"n": {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}}}}
    (problem,) = CompiledSchema({**schema, "$ref": "#/$defs/n"}).problems(deep)
    assert problem.path == ("a",) * 32


@given(st.text(min_size=8).filter(lambda text: text.strip()))
def test_values_are_not_echoed_in_messages(secret: str) -> None:
    """Values are prompts; names of properties are not known to be secret."""
    value = f"xyzzy{secret}"
    schemas: list[dict[str, Any]] = [
        {"type": "integer"},
        {"enum": ["a"]},
        {"const": "a"},
        {"maxLength": 2},
        {"pattern": "^a$"},
        {"format": "uri"},
        {"not": {}},
        {"oneOf": [{"type": "string"}, {"type": "string"}]},
    ]
    for schema in schemas:
        for problem in CompiledSchema(schema, formats=True).problems(value):
            assert "xyzzy" not in problem.message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"pattern": "("},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "#/nowhere"},
        {"$id": "http://a.example/b", "$ref": "c"},
        {"minimum": "3"},
        {"required": "a"},
    ],
)
def test_invalid_schemas_do_not_compile(schema: dict[str, Any]) -> None:
    """Nor does one that refers to another document: nothing is fetched."""
    with pytest.raises(SchemaError):
        CompiledSchema(schema)


def test_an_extremely_deep_schema_does_not_compile() -> None:
    """It is refused, and does not take the process with it."""
    schema: dict[str, Any] = {}
    for _ in range(20_000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(SchemaError):
        CompiledSchema(schema)


def test_patterns_are_matched_in_linear_time() -> None:
    """The classic that takes other engines longer than the universe has been there."""
    assert CompiledSchema({"pattern": "^(a+)+$"}).problems("a" * 20_000 + "b")


def openapi(given: dict[str, Any], output: Any = None, **schemas: Any) -> ModelSchema:
    """A model's document as Cog writes it."""
    everything = {"Input": given, "Output": output or {"type": "string"}, **schemas}
    return ModelSchema({"openapi": "3.0.2", "components": {"schemas": everything}})


COG = {
    "type": "object",
    "title": "Input",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "x-order": 0},
        "seed": {"type": "integer", "nullable": True},
        "ratio": {"allOf": [{"$ref": "#/components/schemas/ratio"}], "default": "1:1"},
        "strength": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1},
        "images": {"type": "array", "items": {"type": "string", "format": "uri"}},
        "mask": {"type": "string", "format": "uri"},
        "token": {"type": "string", "format": "password", "writeOnly": True, "nullable": True},
        "anything": {"title": "Anything"},
    },
}
RATIO = {"enum": ["1:1", "16:9"], "type": "string", "title": "ratio"}


@pytest.mark.parametrize(
    ("given_", "problems"),
    [
        ({"prompt": "x"}, {}),
        ({"prompt": "x", "seed": None, "ratio": "16:9", "strength": 0.1, "token": "t"}, {}),
        ({"prompt": "x", "images": ["https://a.example/b", "data:image/png;base64,AA=="]}, {}),
        ({"prompt": "x", "anything": {"a": [1]}}, {}),
        ({}, {"prompt": "is required"}),
        ({"prompt": None}, {"prompt": "is not of type string"}),
        ({"prompt": "x", "seed": "1"}, {"seed": "is not of type integer, null"}),
        ({"prompt": "x", "ratio": "7:5"}, {"ratio": "is not one of 1:1, 16:9"}),
        ({"prompt": "x", "strength": 0}, {"strength": "is not over 0"}),
        ({"prompt": "x", "strength": 2}, {"strength": "is over 1"}),
        ({"prompt": "x", "images": ["https://a", "b c"]}, {"images[1]": "is no uri"}),
        ({"prompt": "x", "promt": 1}, {"promt": "is not an input of the model"}),
    ],
)
def test_inputs_are_validated_by_openapi_semantics(
    given_: dict[str, Any], problems: dict[str, str]
) -> None:
    """OpenAPI's own words for null and for bounds, references to enumerations, formats."""
    assert openapi(COG, ratio=RATIO).problems(given_) == problems


def test_list_inputs() -> None:
    """By the input's type; unknown where it has none."""
    schema = openapi(COG, ratio=RATIO)
    assert schema.takes_list("images") is True
    assert schema.takes_list("mask") is False
    assert schema.takes_list("ratio") is False
    assert schema.takes_list("anything") is None
    assert schema.takes_list("nothing") is None


URI = {"type": "string", "format": "uri"}


@pytest.mark.parametrize(
    ("output", "paths"),
    [
        ({"type": "string"}, ()),
        (URI, ((),)),
        ({"type": "array", "items": URI}, (("*",),)),
        ({"type": "object", "properties": {"audio_out": URI, "n": {}}}, (("audio_out",),)),
        ({"type": "object", "additionalProperties": URI}, (("*",),)),
        ({"anyOf": [URI, {"type": "null"}]}, ((),)),
        ({"$ref": "#/components/schemas/Clip"}, (("frames", "*", "url"),)),
        ({"$ref": "#/components/schemas/Missing"}, ()),
    ],
)
def test_paths_of_media_in_an_output(output: dict[str, Any], paths: tuple[Any, ...]) -> None:
    """At any depth, through references and choices."""
    clip = {
        "type": "object",
        "properties": {
            "frames": {"type": "array", "items": {"type": "object", "properties": {"url": URI}}}
        },
    }
    assert openapi(COG, output, ratio=RATIO, Clip=clip).link_paths == paths


def test_recursive_output_schemas_end() -> None:
    """A tree of pictures has no end; the search for links does."""
    tree = {
        "type": "object",
        "properties": {name: {"$ref": "#/components/schemas/Tree"} for name in "abcdefgh"}
        | {"url": URI},
    }
    paths = openapi(COG, {"$ref": "#/components/schemas/Tree"}, ratio=RATIO, Tree=tree).link_paths
    assert ("url",) in paths
    assert ("a", "b", "url") in paths
    assert len(paths) < 1_001


def test_outputs_that_are_joined_text() -> None:
    """Iterators of strings that are to be joined; not those of links, nor plain lists."""
    pieces = {"type": "array", "items": {"type": "string"}, "x-cog-array-type": "iterator"}
    assert openapi(COG, {**pieces, "x-cog-array-display": "concatenate"}, ratio=RATIO).streams_text
    assert not openapi(COG, pieces, ratio=RATIO).streams_text
    links = {**pieces, "items": URI, "x-cog-array-display": "concatenate"}
    assert not openapi(COG, links, ratio=RATIO).streams_text


def test_input_names_are_not_taken_for_keywords() -> None:
    """A model may call an input `nullable`, and its default may look like a schema."""
    given = {
        "type": "object",
        "properties": {
            "nullable": {"type": "boolean"},
            "minimum": {"type": "number"},
            "options": {"type": "object", "default": {"nullable": True}},
        },
    }
    schema = openapi(given)
    assert schema.problems({"nullable": True, "minimum": 1, "options": {}}) == {}
    assert schema.problems({"nullable": 1}) == {"nullable": "is not of type boolean"}
    options = schema.input("options")
    assert options is not None
    assert options.default == {"nullable": True}


@pytest.mark.parametrize(
    "document",
    [
        {"nullable": True, "components": {"schemas": {"Input": {"properties": {}}}}},
        {"components": {"nullable": True, "schemas": {"Input": {"properties": {}}}}},
        {"components": {"schemas": {"nullable": True, "Input": {"properties": {}}}}},
        {"components": {"schemas": {"Input": {"properties": ["a"]}, "Output": {"type": [{}]}}}},
        {"components": {"schemas": {"Input": {"properties": {"a": {"type": [[]]}}}}}},
        {"components": {"schemas": {"Input": {"required": 5, "properties": {"a": 5}}}}},
        {"components": {"schemas": {"Input": {"properties": {"a": {"allOf": [5, None]}}}}}},
    ],
)
def test_malformed_documents_are_tolerated(document: dict[str, Any]) -> None:
    """Whoever publishes a model writes it."""
    schema = ModelSchema(document)
    schema.problems({"a": 1})
    assert schema.takes_list("a") is None
    published = schema.input("a")
    assert published is None or published.default is None
    assert schema.inputs is not None
    assert schema.link_paths == ()


@pytest.mark.parametrize("shape", ["deep", "wide"])
def test_oversized_documents_are_not_read(shape: str) -> None:
    """It would take the process with it, or stand in the way of everybody."""
    given: Any = {"properties": {"a": {}}}
    if shape == "deep":
        for _ in range(2_000):
            given = {"properties": {"a": given}}
    else:
        given = {"properties": {f"a{number}": {} for number in range(30_000)}}
    assert openapi(given).refusal


def test_the_search_for_media_paths_is_bounded() -> None:
    """Many alternatives, each with many properties that refer to the same again."""
    clip = {
        "properties": {
            f"a{number}": {"$ref": "#/components/schemas/Clip"} for number in range(5_000)
        }
    }
    many = {"anyOf": [{"$ref": "#/components/schemas/Clip"}] * 5_000}
    assert openapi(COG, many, ratio=RATIO, Clip=clip).link_paths == ()


@pytest.mark.parametrize(
    "schemas",
    [None, {}, {"Input": {}}, {"Input": {"type": "nothing"}}, {"Input": {"$ref": "#/nowhere"}}],
)
def test_an_unusable_input_schema_leaves_inputs_unchecked(schemas: dict[str, Any] | None) -> None:
    """Inputs go unchecked; what it says of the output still counts."""
    output = {"Output": URI} if schemas is not None else {}
    schema = ModelSchema({"components": {"schemas": {**(schemas or {}), **output}}})
    assert schema.problems({"a": 1}) == {}
    assert not schema.is_checkable
    assert schema.link_paths == (((),) if output else ())
