"""JSON Schema: a schema is compiled once, and says in our own words what is wrong with a value.

Schemas come from callers and from upstream, values from callers and models. So nothing is fetched
(a `$ref` to elsewhere does not compile), patterns run in time that is linear in the text, and no
complaint repeats any part of a value. A schema is bounded by its unfolded size; what takes long all
the same is for a process that can be killed: see schema_checks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from mediagate_server.catalog.schema_size import SchemaError as SchemaError  # noqa: PLC0414
from mediagate_server.catalog.schema_size import size_of

MOST_PROBLEMS = 16
"""Nobody reads more at once."""
MOST_STEPS: Final = 20_000
"""Keywords and listed values of an unfolded schema."""
_MOST_LISTED: Final = 2_000
"""Steps up to which a value is looked at for all that is wrong: listing costs 30 us for each."""

_WORDS = {
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
_OTHERWISE = "is not as the schema has it"
_LONGEST_OPTIONS = 120
_LONGEST_STEP: Final = 120
_LONGEST_PATH: Final = 32


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one place of a value: keys and positions from its root, and words."""

    path: tuple[str | int, ...]
    words: str


class Schema:
    """One compiled schema, of draft 2020-12 or the one that it names."""

    def __init__(self, document: Mapping[str, Any], *, formats: bool = False) -> None:
        """`formats` also checks `format`, which else is only a note. Raises SchemaError."""
        self._steps = size_of(document, MOST_STEPS).steps
        try:
            self._validator = jsonschema_rs.validator_for(
                dict(document),
                validate_formats=formats,
                offline=True,
                pattern_options=jsonschema_rs.RegexOptions(),
                mask="a value",
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError(_why(error)) from None
        except (ValueError, RecursionError) as error:
            raise SchemaError("cannot be read") from error

    def problems(self, value: Any) -> tuple[Problem, ...]:
        """What is wrong with a JSON value; empty: nothing.

        The first few complaints about a small value, the first one about a large: the validator
        would make them all, path and all, before it told any.
        """
        if self._validator.is_valid(value):
            return ()
        if self._steps * places_of(value, _MOST_LISTED) <= _MOST_LISTED:
            errors = iter(self._validator.iter_errors(value))
        else:
            errors = iter([self._first_error(value)])
        return tuple(islice(self._problems(errors), MOST_PROBLEMS))

    def _first_error(self, value: Any) -> jsonschema_rs.ValidationError:
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return error
        raise RuntimeError("a value that is not valid is valid")

    def _problems(self, errors: Iterator[jsonschema_rs.ValidationError]) -> Iterator[Problem]:
        for error in errors:
            path = tuple(map(_step, islice(error.instance_path, _LONGEST_PATH)))
            facts = error.kind.as_dict()
            match error.kind.name:
                case "required":
                    yield Problem((*path, _step(facts["property"])), "is required")
                case "additionalProperties" | "unevaluatedProperties":
                    for name in facts["unexpected"]:
                        yield Problem((*path, _step(name)), "is not known")
                case name:
                    yield Problem(path, _words(name, facts))


def _step(step: str | int) -> str | int:
    """A key or a position; long keys are cut."""
    if isinstance(step, str) and len(step) > _LONGEST_STEP:
        return step[:_LONGEST_STEP] + "..."
    return step


def places_of(value: Any, most: int) -> int:
    """The values within a JSON value, itself too, and one for each KiB of text; counted up to
    `most`, and then a little more.
    """
    waiting, places = [value], 0
    while waiting and places <= most:
        one = waiting.pop()
        places += 1
        if isinstance(one, str):
            places += len(one) >> 10
        elif isinstance(one, Mapping):
            places += sum(map(len, one)) >> 10
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
    return places


def _words(name: str, facts: Mapping[str, Any]) -> str:
    known = {key: _shown(value, ordered=key != "types") for key, value in facts.items()}
    try:
        return _WORDS.get(name, _OTHERWISE).format(**known)
    except KeyError:
        return _OTHERWISE


def _shown(fact: Any, *, ordered: bool) -> str:
    """A fact of the schema, for people. Long lists are cut."""
    if isinstance(fact, list):
        words = [str(item) for item in fact]
        fact = ", ".join(words if ordered else sorted(words))
    text = str(fact)
    return text if len(text) <= _LONGEST_OPTIONS else text[:_LONGEST_OPTIONS] + "..."


def _why(error: Exception) -> str:
    if isinstance(error, jsonschema_rs.ValidationError):
        place = "".join(f"/{step}" for step in error.instance_path)
        if place:
            return f"is no JSON Schema at {place[:_LONGEST_OPTIONS]}"
    return "is no JSON Schema, or refers to another document"
