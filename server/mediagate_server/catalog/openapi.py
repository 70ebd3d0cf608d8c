"""A model's OpenAPI document, as Cog writes it: what it takes, and where its output holds links.

Cog writes OpenAPI 3.0, whose `nullable` and boolean `exclusiveMinimum` JSON Schema does not know;
they are put into its words before anything is checked by them.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mediagate_server.catalog.schema import Schema, SchemaError

ANY_STEP: Final = "*"
"""In a path to links: every item of a list, or every property of an object."""

Path = tuple[str, ...]

_DEEPEST = 12
_MOST_SCHEMAS = 1_000
"""How far links are looked for: output schemas are small, but one that refers to itself is not."""
_INPUT, _OUTPUT = "#/components/schemas/Input", "#/components/schemas/Output"
_COMBINED = ("allOf", "anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class PublishedInput:
    """One input as its schema has it. Empty or None: the schema does not say.

    `types` are the names that JSON Schema gives them, without null.
    """

    types: frozenset[str]
    values: tuple[Any, ...] = ()
    least: float | None = None
    most: float | None = None
    default: Any = None
    required: bool = False


class ModelSchema:
    """What one version of a model takes and gives, as far as its document tells."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """`document` may be empty, or of no use: then inputs cannot be checked."""
        self._document = document
        self._given = _resolved(document, {"$ref": _INPUT})
        self._output = _resolved(document, {"$ref": _OUTPUT})
        self._schema: Schema | None = None
        if self._given:
            with suppress(SchemaError):
                self._schema = Schema(_input_schema(document), formats=True)

    @property
    def is_known(self) -> bool:
        """Whether inputs can be checked."""
        return self._schema is not None

    def problems(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with an input, by path (`prompt`, `images[2]`); empty: nothing."""
        if self._schema is None:
            return {}
        found: dict[str, str] = {}
        for problem in self._schema.problems(given):
            unknown = len(problem.path) == 1 and problem.words == "is not known"
            words = "is not an input of the model" if unknown else problem.words
            found.setdefault(_written(problem.path), words)
        return found

    @property
    def inputs(self) -> dict[str, PublishedInput]:
        """Every input that it names."""
        required = self._given.get("required", ())
        return {
            name: self._input(schema, required=name in required)
            for name, schema in self._given.get("properties", {}).items()
            if isinstance(schema, Mapping)
        }

    def _input(self, schema: Mapping[str, Any], *, required: bool) -> PublishedInput:
        parts = [*_alternatives(self._document, schema)]
        listed = [part["enum"] for part in parts if isinstance(part.get("enum"), list)]
        return PublishedInput(
            types=frozenset(kind for part in parts for kind in _types(part.get("type"))) - {"null"},
            values=tuple(listed[0]) if listed else (),
            least=_number(schema.get("minimum")),
            most=_number(schema.get("maximum")),
            default=schema.get("default"),
            required=required,
        )

    def takes_list(self, name: str) -> bool | None:
        """Whether an input takes a list; None where its schema does not say."""
        schema = self._given.get("properties", {}).get(name)
        kinds = {
            kind
            for one in _alternatives(self._document, schema)
            for kind in _types(one.get("type"))
        } - {"null"}
        return "array" in kinds if kinds else None

    def default(self, name: str) -> Any:
        """What the model takes for an input that is not sent; None: nothing."""
        schema = self._given.get("properties", {}).get(name)
        return schema.get("default") if isinstance(schema, Mapping) else None

    @property
    def streams_text(self) -> bool:
        """Whether the output comes in pieces that are one text together."""
        output = self._output
        pieces = _resolved(self._document, output.get("items"))
        return (
            output.get("x-cog-array-type") == "iterator"
            and output.get("x-cog-array-display") == "concatenate"
            and pieces.get("type") == "string"
            and pieces.get("format") != "uri"
        )

    @property
    def link_paths(self) -> tuple[Path, ...]:
        """Where the output holds links to media, by its schema: keys and ANY_STEP, in order."""
        found: dict[Path, None] = {}
        waiting: deque[tuple[Path, Any]] = deque([((), self._output)])
        for _ in range(_MOST_SCHEMAS):
            if not waiting:
                break
            path, schema = waiting.popleft()
            for one in _alternatives(self._document, schema):
                if one.get("format") == "uri":
                    found[path] = None
                if len(path) < _DEEPEST:
                    waiting.extend((path + step, inner) for step, inner in _inner(one))
        return tuple(found)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _input_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the input as its root. What is not named there is refused, as a slip."""
    plain = _in_json_schema(document)
    given = plain["components"]["schemas"]["Input"]
    given.setdefault("additionalProperties", False)
    return {"$ref": _INPUT, "components": plain["components"]}


def _in_json_schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_in_json_schema(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: _in_json_schema(value) for key, value in node.items()}
    for bound, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(made.get(strict), bool) and made.pop(strict) and bound in made:
            made[strict] = made.pop(bound)
    if made.pop("nullable", False) is True:
        if not isinstance(made.get("type"), str) or "enum" in made:
            return {"anyOf": [made, {"type": "null"}]}
        made["type"] = [made["type"], "null"]
    return made


def _resolved(document: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    """The schema behind any number of references; empty where there is none."""
    for _ in range(_DEEPEST):
        if not isinstance(schema, Mapping):
            return {}
        target = schema.get("$ref")
        if not isinstance(target, str):
            return schema
        schema = document
        for step in target.removeprefix("#/").split("/"):
            schema = schema.get(step) if isinstance(schema, Mapping) else None
    return {}


def _alternatives(document: Mapping[str, Any], schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and all that it is combined of, one level deep."""
    own = _resolved(document, schema)
    yield own
    for word in _COMBINED:
        parts = own.get(word)
        if isinstance(parts, list):
            yield from (_resolved(document, part) for part in parts)


def _types(kind: Any) -> tuple[str, ...]:
    return tuple(kind) if isinstance(kind, list) else (kind,) if isinstance(kind, str) else ()


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The schemas of what lies one step further in."""
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        yield from (((name,), inner) for name, inner in properties.items())
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), Mapping):
            yield (ANY_STEP,), schema[word]


def _written(path: tuple[str | int, ...]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
