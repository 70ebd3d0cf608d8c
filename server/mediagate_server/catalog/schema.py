"""JSON Schema: a schema is compiled once, and says in our own words what is wrong with a value.

Schemas come from callers and from upstream, values from callers and models. So nothing is fetched
(a `$ref` to elsewhere does not compile), patterns run in time that is linear in the text, and no
complaint repeats any part of a value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema_rs

MOST_PROBLEMS = 16
"""Nobody reads more at once."""

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


class SchemaError(ValueError):
    """It is no schema that we can check by. The text says why and repeats none of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one place of a value: keys and positions from its root, and words."""

    path: tuple[str | int, ...]
    words: str


class Schema:
    """One compiled schema, of draft 2020-12 or the one that it names. Raises SchemaError."""

    def __init__(self, document: Mapping[str, Any], *, formats: bool = False) -> None:
        """`formats` also checks `format`, which else is only a note."""
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
        """What is wrong with a JSON value, the first few; empty: nothing."""
        return tuple(islice(self._problems(value), MOST_PROBLEMS))

    def _problems(self, value: Any) -> Iterator[Problem]:
        for error in self._validator.iter_errors(value):
            path = tuple(error.instance_path)
            facts = error.kind.as_dict()
            match error.kind.name:
                case "required":
                    yield Problem((*path, facts["property"]), "is required")
                case "additionalProperties" | "unevaluatedProperties":
                    for name in facts["unexpected"]:
                        yield Problem((*path, name), "is not known")
                case name:
                    yield Problem(path, _words(name, facts))


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
