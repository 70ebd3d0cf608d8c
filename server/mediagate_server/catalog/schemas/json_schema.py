"""JSON Schema validation: compiled schemas, error messages in our own words, and a bound on size.

Schemas come from callers and from upstream, values from callers and models. So nothing is fetched
(a `$ref` to elsewhere does not compile), patterns run in time that is linear in the text, and no
message repeats any part of a value. Small compiled schemas are cached by their text.

A schema is bounded by its unfolded size, which is what a validator walks once references are
followed: twenty definitions, each of which refers twice to the next, are a kilobyte that unfolds to
a million schemas. They are counted up to a bound, without recursion; a reference that comes back to
itself is not followed again, and the schema is not plain. A schema that takes long all the same is
for a process that can be killed: `compile_schema` and `find_problems` are tasks of worker_pool, and
have JSON as payloads and results; schema_validation calls them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

import jsonschema_rs

MAX_SCHEMA_DEPTH: Final = 128
"""Maximum depth of an unfolded schema: validators recurse."""
_MAX_CHEAP_STEPS: Final = 2_000
MAX_PROBLEMS = 16
"""Maximum errors of one value."""
MAX_STEPS: Final = 20_000
"""Maximum size of an unfolded schema: keywords and listed values."""
_MAX_STEPS_LISTED: Final = 2_000
"""Maximum steps for listing all errors of a value: listing costs 30 us per step."""
_MESSAGES = {
    "type": "is not of type {types}",
    "enum": "is not one of {options}",
    "const": "is not the one value that is allowed",
    "minimum": "is under {limit}",
    "exclusiveMinimum": "is not over {limit}",
    "maximum": "is over {limit}",
    "exclusiveMaximum": "is not under {limit}",
    "minLength": "is shorter than {limit} characters",
    "maxLength": "is longer than {limit} characters",
    "minItems": "has fewer than {limit} items",
    "maxItems": "has more than {limit} items",
    "uniqueItems": "has the same item twice",
    "multipleOf": "is not a multiple of {multiple_of}",
    "pattern": "does not match the pattern",
    "format": "is no {format}",
}
_OTHER_MESSAGE = "is not as the schema has it"
_MAX_FACT_CHARACTERS = 120
_MAX_STEP_CHARACTERS: Final = 120
_MAX_PATH_STEPS: Final = 32
_MAX_CACHED_SCHEMAS: Final = 64
_MAX_CACHED_CHARACTERS: Final = 4 * 1024
"""Maximum characters of a cached schema."""
_SCHEMA_KEYWORDS: Final = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_SCHEMA_LIST_KEYWORDS: Final = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_SCHEMA_MAP_KEYWORDS: Final = (
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
)
_REFERENCE_KEYWORDS: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_COSTLY_KEYWORDS: Final = frozenset(_SCHEMA_KEYWORDS) - {"additionalProperties", "items", "not"} | {
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveRef",
    "$vocabulary",
    "dependencies",
    "dependentSchemas",
    "id",
    "maxContains",
    "minContains",
    "multipleOf",
    "pattern",
    "patternProperties",
    "uniqueItems",
}
"""Keywords whose cost is not one step per value, or is not known here."""


class SchemaError(ValueError):
    """A schema that cannot be compiled. The text says why and repeats none of it."""


class SchemaTooComplex(SchemaError):
    """A schema that is too large once its references are followed."""


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """Validation error: keys and positions from the root of the value, and the message."""

    path: tuple[str | int, ...]
    message: str


class CompiledSchema:
    """Compiled JSON Schema, of draft 2020-12 or the one that it names."""

    def __init__(self, document: Mapping[str, Any], *, formats: bool = False) -> None:
        """`formats` also validates `format`, which else is an annotation. Raises SchemaError."""
        self._steps = measure_schema(document, MAX_STEPS).steps
        try:
            self._validator = jsonschema_rs.validator_for(
                dict(document),
                validate_formats=formats,
                offline=True,
                pattern_options=jsonschema_rs.RegexOptions(),
                mask="a value",
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError(_compile_error_text(error)) from None
        except (ValueError, RecursionError) as error:
            raise SchemaError("cannot be read") from error

    def problems(self, value: Any) -> tuple[SchemaProblem, ...]:
        """Validation errors of a JSON value; empty where it is valid.

        The first few errors of a small value, the first one of a large: the validator would compute
        all of them, with their paths, before it returned any.
        """
        if self._validator.is_valid(value):
            return ()
        if self._steps * count_values(value, _MAX_STEPS_LISTED) <= _MAX_STEPS_LISTED:
            errors = iter(self._validator.iter_errors(value))
        else:
            errors = iter([self._first_error(value)])
        return tuple(islice(self._problems(errors), MAX_PROBLEMS))

    def _first_error(self, value: Any) -> jsonschema_rs.ValidationError:
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return error
        raise RuntimeError("a value that is not valid is valid")

    def _problems(self, errors: Iterator[jsonschema_rs.ValidationError]) -> Iterator[SchemaProblem]:
        for error in errors:
            path = tuple(map(_shorten_step, islice(error.instance_path, _MAX_PATH_STEPS)))
            facts = error.kind.as_dict()
            match error.kind.name:
                case "required":
                    yield SchemaProblem((*path, _shorten_step(facts["property"])), "is required")
                case "additionalProperties" | "unevaluatedProperties":
                    for name in facts["unexpected"]:
                        yield SchemaProblem((*path, _shorten_step(name)), "is not known")
                case name:
                    yield SchemaProblem(path, _problem_text(name, facts))


def _shorten_step(step: str | int) -> str | int:
    """A key or a position; long keys are cut."""
    if isinstance(step, str) and len(step) > _MAX_STEP_CHARACTERS:
        return step[:_MAX_STEP_CHARACTERS] + "..."
    return step


def _problem_text(name: str, facts: Mapping[str, Any]) -> str:
    printable = {key: _format_fact(value, ordered=key != "types") for key, value in facts.items()}
    try:
        return _MESSAGES.get(name, _OTHER_MESSAGE).format(**printable)
    except KeyError:
        return _OTHER_MESSAGE


def _format_fact(fact: Any, *, ordered: bool) -> str:
    """Format a fact of the schema. Long lists are cut."""
    if isinstance(fact, list):
        texts = [str(item) for item in fact]
        fact = ", ".join(texts if ordered else sorted(texts))
    text = str(fact)
    return text if len(text) <= _MAX_FACT_CHARACTERS else text[:_MAX_FACT_CHARACTERS] + "..."


def _compile_error_text(error: Exception) -> str:
    if isinstance(error, jsonschema_rs.ValidationError):
        pointer = "".join(f"/{step}" for step in error.instance_path)
        if pointer:
            return f"is no JSON Schema at {pointer[:_MAX_FACT_CHARACTERS]}"
    return "is no JSON Schema, or refers to another document"


def cheap_schema(text: str) -> tuple[int, CompiledSchema] | None:
    """Steps and compiled form of a small plain schema; None for others. Raises SchemaError."""
    return (
        _compile_cheap_cached(text) if len(text) <= _MAX_CACHED_CHARACTERS else _compile_cheap(text)
    )


def _compile_cheap(text: str) -> tuple[int, CompiledSchema] | None:
    document = json.loads(text)
    steps = cheap_steps(document)
    return None if steps is None else (steps, CompiledSchema(document))


_compile_cheap_cached = lru_cache(_MAX_CACHED_SCHEMAS)(_compile_cheap)


def count_values(value: Any, limit: int) -> int:
    """Count the values within a JSON value, itself too, and one for each KiB of text; stops soon
    after `limit`.
    """
    pending, count = [value], 0
    while pending and count <= limit:
        item = pending.pop()
        count += 1
        if isinstance(item, str):
            count += len(item) >> 10
        elif isinstance(item, Mapping):
            count += sum(map(len, item)) >> 10
            pending += item.values()
        elif isinstance(item, list | tuple):
            pending += item
    return count


@dataclass(frozen=True, slots=True)
class SchemaSize:
    """Size of an unfolded schema in steps: keywords and listed values. `is_plain`: each costs one
    step at most per value, so that `steps` times values bounds a validation.
    """

    steps: int
    is_plain: bool


def cheap_steps(document: Any) -> int | None:
    """Steps of a small plain schema, which may be compiled in any process; else None."""
    try:
        size = measure_schema(document, _MAX_CHEAP_STEPS)
    except SchemaTooComplex:
        return None
    return size.steps if size.is_plain else None


@dataclass(frozen=True, slots=True)
class _ReferencePath:
    """References followed so far, as a linked list, the last one first."""

    target: int
    previous: "_ReferencePath | None"


def measure_schema(document: Any, max_steps: int) -> SchemaSize:
    """Measure a schema. SchemaTooComplex: above `max_steps`, or deeper than MAX_SCHEMA_DEPTH."""
    resolver = _ReferenceResolver(document)
    pending: list[tuple[Any, Any, _ReferencePath | None, int]] = [(document, document, None, 0)]
    steps, is_plain = 0, True
    while pending:
        schema, base, path, depth = pending.pop()
        if depth > MAX_SCHEMA_DEPTH:
            raise SchemaTooComplex(f"unfolds to more than {MAX_SCHEMA_DEPTH} levels")
        steps += 1 + _listed_values(schema)
        if steps > max_steps:
            raise SchemaTooComplex(f"unfolds to more than {max_steps:,} keywords and values")
        if not isinstance(schema, Mapping):
            continue
        if "$id" in schema:
            base = schema
        is_plain = is_plain and _COSTLY_KEYWORDS.isdisjoint(schema)
        pending += [(inner, base, path, depth + 1) for inner in _subschemas(schema)]
        for reference in _references(schema):
            is_plain = is_plain and reference.startswith("#/")
            for target, target_base in resolver.find(reference, base):
                if _was_followed(path, id(target)):
                    is_plain = False
                else:
                    further = _ReferencePath(id(target), path)
                    pending.append((target, target_base, further, depth + 1))
    return SchemaSize(steps, is_plain)


def _listed_values(schema: Any) -> int:
    if not isinstance(schema, Mapping):
        return 0
    listed = (schema.get(word) for word in ("enum", "required"))
    return len(schema) + sum(len(values) for values in listed if isinstance(values, list))


def _subschemas(schema: Mapping[str, Any]) -> Iterator[Any]:
    for word in _SCHEMA_KEYWORDS:
        if isinstance(schema.get(word), Mapping):
            yield schema[word]
    for word in _SCHEMA_LIST_KEYWORDS:
        if isinstance(schema.get(word), list):
            yield from schema[word]
    for word in _SCHEMA_MAP_KEYWORDS:
        if isinstance(schema.get(word), Mapping):
            yield from schema[word].values()


def _references(schema: Mapping[str, Any]) -> Iterator[str]:
    for word in _REFERENCE_KEYWORDS:
        if isinstance(schema.get(word), str):
            yield schema[word]


def _was_followed(path: _ReferencePath | None, target: int) -> bool:
    while path is not None:
        if path.target == target:
            return True
        path = path.previous
    return False


class _ReferenceResolver:
    """Resolver of references within one document: by pointer, by anchor, by `$id`.

    Where a reference is ambiguous it gives every candidate: only the size depends on it.
    """

    def __init__(self, document: Any) -> None:
        self._document = document
        self._named: dict[str, list[tuple[Any, Any]]] | None = None

    def find(self, reference: str, base: Any) -> list[tuple[Any, Any]]:
        """The targets, each with the base document of its own references."""
        uri, _, fragment = reference.partition("#")
        bases = [base] if not uri else [target_base for target_base, _ in self._find_named(uri)]
        if fragment and not fragment.startswith("/"):
            return self._find_named("#" + fragment)
        return [
            (target, target_base)
            for target_base in bases
            if (target := _resolve_pointer(target_base, fragment)) is not None
            and isinstance(target, Mapping | bool)
        ]

    def _find_named(self, name: str) -> list[tuple[Any, Any]]:
        if self._named is None:
            self._named = {}
            self._collect_names(self._named)
        return self._named.get(name.rpartition("/")[2], [])

    def _collect_names(self, named: dict[str, list[tuple[Any, Any]]]) -> None:
        pending = [(self._document, self._document)]
        while pending:
            node, base = pending.pop()
            if isinstance(node, list):
                pending += [(item, base) for item in node]
            if not isinstance(node, Mapping):
                continue
            for word in ("$id", "id"):
                if isinstance(node.get(word), str):
                    base = node
                    name = node[word].rstrip("#").rpartition("/")[2]
                    named.setdefault(name, []).append((node, node))
            for word in ("$anchor", "$dynamicAnchor"):
                if isinstance(node.get(word), str):
                    named.setdefault("#" + node[word], []).append((node, base))
            pending += [(item, base) for item in node.values()]


def _resolve_pointer(node: Any, pointer: str) -> Any:
    """Resolve a JSON pointer; None where it leads nowhere."""
    for step in pointer.split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and key.isdecimal() and len(key) < 10:
            node = node[int(key)] if int(key) < len(node) else None
        else:
            return None
    return node


_SAMPLE_VALUES: tuple[Any, ...] = (None, True, 0, "", [], {})
_TOO_DEEP = "cannot be checked: the value is nested too deep"


def compile_schema(payload: bytes) -> bytes:
    """Task `[schema, formats]` -> JSON of what is wrong with the schema, for `raise_schema_error`.

    One value of each type is validated by it, so that a schema which cannot do even that in time is
    found now, and not once an answer is paid for.
    """
    document, formats = json.loads(payload)
    try:
        schema = CompiledSchema(document, formats=formats)
    except SchemaError as error:
        return json.dumps([isinstance(error, SchemaTooComplex), str(error)]).encode()
    for sample in _SAMPLE_VALUES:
        schema.problems(sample)
    return b""


def raise_schema_error(result: bytes) -> None:
    """Raises the SchemaError in a result of `compile_schema`, if any."""
    if result:
        is_too_complex, message = json.loads(result)
        raise (SchemaTooComplex if is_too_complex else SchemaError)(message)


def find_problems(payload: bytes) -> bytes:
    """Task `[schema, formats, value]` -> `[[path, words], ...]`, or words where it is no schema."""
    document, formats, value = json.loads(payload)
    try:
        problems = CompiledSchema(document, formats=formats).problems(value)
    except ValueError as error:  # Nested deeper than the validator goes, too.
        return json.dumps(str(error) if isinstance(error, SchemaError) else _TOO_DEEP).encode()
    return json.dumps([[problem.path, problem.message] for problem in problems]).encode()


def parse_problems(result: bytes) -> tuple[SchemaProblem, ...]:
    """Parse a result of `find_problems`. Raises SchemaError."""
    problems: Any = json.loads(result)
    if isinstance(problems, str):
        raise SchemaError(problems)
    return tuple(SchemaProblem(tuple(path), message) for path, message in problems)
