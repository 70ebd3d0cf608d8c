"""The unfolded size of a JSON Schema: what a validator has to walk once references are followed.

Twenty definitions, each of which refers twice to the next, are a kilobyte that unfolds to a
million schemas. They are counted here, up to a bound, by unfolding them; where a reference comes
back to itself it is not followed again, and the schema is not `plain`. Pure, without recursion.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

DEEPEST: Final = 128
"""Levels of an unfolded schema. Validators recurse."""

_MOST_HARMLESS: Final = 2_000

_ONE: Final = (
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
_LISTS: Final = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_MAPS: Final = ("dependencies", "dependentSchemas", "patternProperties", "properties")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_NOT_PLAIN: Final = frozenset(_ONE) - {"additionalProperties", "items", "not"} | {
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
"""Keywords whose cost is not one step for each place of a value, or not seen from here."""


class SchemaError(ValueError):
    """It is no schema that we can check by. The text says why and repeats none of it."""


class SchemaTooComplex(SchemaError):
    """It is a schema, and too large once its references are followed."""


@dataclass(frozen=True, slots=True)
class SchemaSize:
    """Keywords and listed values of the unfolded schema. `plain`: each of them costs one step at
    most for each place of a value, so that `steps` times places bounds a check.
    """

    steps: int
    plain: bool


def harmless_steps(document: Any) -> int | None:
    """The steps of a small plain schema, which may be compiled anywhere; else None."""
    try:
        size = size_of(document, _MOST_HARMLESS)
    except SchemaTooComplex:
        return None
    return size.steps if size.plain else None


@dataclass(frozen=True, slots=True)
class _Path:
    """The references that were followed to get somewhere, the last one first."""

    target: int
    before: "_Path | None"


def size_of(document: Any, most: int) -> SchemaSize:
    """Raises SchemaTooComplex where it is above `most`, or deeper than DEEPEST."""
    places = _Places(document)
    waiting: list[tuple[Any, Any, _Path | None, int]] = [(document, document, None, 0)]
    steps, plain = 0, True
    while waiting:
        schema, base, path, depth = waiting.pop()
        if depth > DEEPEST:
            raise SchemaTooComplex(f"unfolds to more than {DEEPEST} levels")
        steps += 1 + _weight(schema)
        if steps > most:
            raise SchemaTooComplex(f"unfolds to more than {most:,} keywords and values")
        if not isinstance(schema, Mapping):
            continue
        if "$id" in schema:
            base = schema
        plain = plain and _NOT_PLAIN.isdisjoint(schema)
        waiting += [(inner, base, path, depth + 1) for inner in _inner(schema)]
        for reference in _references(schema):
            plain = plain and reference.startswith("#/")
            for target, target_base in places.find(reference, base):
                if _is_on(path, id(target)):
                    plain = False
                else:
                    further = _Path(id(target), path)
                    waiting.append((target, target_base, further, depth + 1))
    return SchemaSize(steps, plain)


def _weight(schema: Any) -> int:
    if not isinstance(schema, Mapping):
        return 0
    listed = (schema.get(word) for word in ("enum", "required"))
    return len(schema) + sum(len(values) for values in listed if isinstance(values, list))


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    for word in _ONE:
        if isinstance(schema.get(word), Mapping):
            yield schema[word]
    for word in _LISTS:
        if isinstance(schema.get(word), list):
            yield from schema[word]
    for word in _MAPS:
        if isinstance(schema.get(word), Mapping):
            yield from schema[word].values()


def _references(schema: Mapping[str, Any]) -> Iterator[str]:
    for word in _REFERENCES:
        if isinstance(schema.get(word), str):
            yield schema[word]


def _is_on(path: _Path | None, target: int) -> bool:
    while path is not None:
        if path.target == target:
            return True
        path = path.before
    return False


class _Places:
    """Where references lead within one document: by pointer, by anchor, by the id of a part.

    Where that is not certain it is every place that may be meant: only the size hangs on it.
    """

    def __init__(self, document: Any) -> None:
        self._document = document
        self._named: dict[str, list[tuple[Any, Any]]] | None = None

    def find(self, reference: str, base: Any) -> list[tuple[Any, Any]]:
        """The targets, each with the part of the document that its own references start from."""
        uri, _, fragment = reference.partition("#")
        bases = [base] if not uri else [one for one, _ in self._all_named(uri)]
        if fragment and not fragment.startswith("/"):
            return self._all_named("#" + fragment)
        return [
            (target, one)
            for one in bases
            if (target := _at(one, fragment)) is not None and isinstance(target, Mapping | bool)
        ]

    def _all_named(self, name: str) -> list[tuple[Any, Any]]:
        if self._named is None:
            self._named = {}
            self._name_all(self._named)
        return self._named.get(name.rpartition("/")[2], [])

    def _name_all(self, named: dict[str, list[tuple[Any, Any]]]) -> None:
        waiting = [(self._document, self._document)]
        while waiting:
            node, base = waiting.pop()
            if isinstance(node, list):
                waiting += [(item, base) for item in node]
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
            waiting += [(item, base) for item in node.values()]


def _at(node: Any, pointer: str) -> Any:
    """What a JSON pointer leads to; None where it leads nowhere."""
    for step in pointer.split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and key.isdecimal() and len(key) < 10:
            node = node[int(key)] if int(key) < len(node) else None
        else:
            return None
    return node
