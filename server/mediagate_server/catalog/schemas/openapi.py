"""A model's OpenAPI document, as Cog writes it: what it takes, and where its output holds links.

Cog writes OpenAPI 3.0, whose `nullable` and boolean `exclusiveMinimum` JSON Schema does not know;
they are put into its words before anything is checked by them.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Final

from mediagate_server.catalog.schemas.json_schema import (
    CompiledSchema,
    SchemaError,
    SchemaProblem,
    cheap_steps,
)

ANY_STEP: Final = "*"
"""In a path to links: every item of a list, or every property of an object."""

OutputPath = tuple[str, ...]

_DEEPEST = 12
_MOST_SCHEMAS = 1_000
"""How far links are looked for: output schemas are small, but one that refers to itself is not."""
_MOST_ALTERNATIVES = 100
"""How many parts of a combined schema are looked at."""
_LARGEST_DOCUMENT: Final = 20_000
"""Values in a document that is read at all; usual ones have some thousand."""
_DEEPEST_DOCUMENT: Final = 64
TOO_COMPLEX: Final = "publishes a schema that is too large or too complex to check by"
_INPUT, _OUTPUT = "#/components/schemas/Input", "#/components/schemas/Output"
_COMBINED = ("allOf", "anyOf", "oneOf")
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
"""Keywords whose keys are names, not keywords."""
_VALUES: Final = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords that hold values, not schemas."""


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
        """`document` may be empty, or of no use: then inputs cannot be checked.

        Nothing is compiled before it is needed: see schema_validation for where that is done.
        """
        self.refusal = ""
        """Why nothing can be run by it; empty: nothing is in the way."""
        if not _is_readable(document):
            document, self.refusal = {}, TOO_COMPLEX
        self._document = document
        self._given = _resolved(document, {"$ref": _INPUT})
        self._output = _resolved(document, {"$ref": _OUTPUT})
        self.input_schema = _input_schema(document) if self._given else None
        """The JSON Schema of the inputs; None where there is none that can be checked by."""
        self.is_checkable: bool | None = None if self.input_schema else False
        """Whether inputs can be checked; None: not found out yet, see schema_validation."""

    def refuse(self) -> None:
        """Its schema is one that nothing can be checked by in time."""
        self.refusal, self.input_schema, self.is_checkable = TOO_COMPLEX, None, False

    @cached_property
    def compiled(self) -> CompiledSchema | None:
        """The schema of the inputs, compiled in this process; None where there is none."""
        try:
            return (
                None
                if self.input_schema is None
                else CompiledSchema(self.input_schema, formats=True)
            )
        except SchemaError:
            return None

    @cached_property
    def cheap_steps(self) -> int | None:
        """See json_schema; None: not to be compiled in this process."""
        return None if self.input_schema is None else cheap_steps(self.input_schema)

    def problems(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with an input, by path (`prompt`, `images[2]`); empty: nothing."""
        self.is_checkable = self.compiled is not None
        return {} if self.compiled is None else format_problems(self.compiled.problems(given))

    @property
    def inputs(self) -> dict[str, PublishedInput]:
        """Every input that it names."""
        return {name: one for name in self._properties if (one := self.input(name))}

    def input(self, name: str) -> PublishedInput | None:
        """One input; None where it names none such."""
        schema = self._properties.get(name)
        if not isinstance(schema, Mapping):
            return None
        parts = [*_alternatives(self._document, schema)]
        listed = [part["enum"] for part in parts if isinstance(part.get("enum"), list)]
        return PublishedInput(
            types=frozenset(kind for part in parts for kind in _types(part.get("type"))) - {"null"},
            values=tuple(listed[0]) if listed else (),
            least=_number(schema.get("minimum")),
            most=_number(schema.get("maximum")),
            default=schema.get("default"),
            required=name in self._required,
        )

    @cached_property
    def _required(self) -> frozenset[str]:
        required = self._given.get("required")
        names = required if isinstance(required, list) else ()
        return frozenset(name for name in names if isinstance(name, str))

    @property
    def _properties(self) -> Mapping[str, Any]:
        properties = self._given.get("properties")
        return properties if isinstance(properties, Mapping) else {}

    def takes_list(self, name: str) -> bool | None:
        """Whether an input takes a list; None where its schema does not say."""
        schema = self._properties.get(name)
        kinds = {
            kind
            for one in _alternatives(self._document, schema)
            for kind in _types(one.get("type"))
        } - {"null"}
        return "array" in kinds if kinds else None

    def default(self, name: str) -> Any:
        """What the model takes for an input that is not sent; None: nothing."""
        schema = self._properties.get(name)
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

    @cached_property
    def link_paths(self) -> tuple[OutputPath, ...]:
        """Where the output holds links to media, by its schema: keys and ANY_STEP, in order."""
        return self._links(self._output)

    @cached_property
    def input_link_paths(self) -> frozenset[OutputPath]:
        """Where the inputs hold links and never any other text, by its schema."""
        return frozenset(self._links(self._given, only=True))

    def _links(self, root: Mapping[str, Any], *, only: bool = False) -> tuple[OutputPath, ...]:
        """Where there are links below a schema; `only`: and no other text in their place."""
        found: dict[OutputPath, None] = {}
        others: set[OutputPath] = set()
        waiting: deque[tuple[OutputPath, Any]] = deque([((), root)])
        left = _MOST_SCHEMAS
        while waiting and left > 0:
            path, schema = waiting.popleft()
            for one in _alternatives(self._document, schema):
                left -= 1
                if one.get("format") == "uri":
                    found[path] = None
                elif "string" in _types(one.get("type")):
                    others.add(path)
                if len(path) < _DEEPEST:
                    room = max(_MOST_SCHEMAS - len(waiting), 0)
                    steps = islice(_inner(one), room)
                    waiting.extend((path + step, inner) for step, inner in steps)
        return tuple(path for path in found if not (only and path in others))


def format_problems(problems: Iterable[SchemaProblem]) -> dict[str, str]:
    """What is wrong, by the path of the input, in words for those who give inputs."""
    found: dict[str, str] = {}
    for problem in problems:
        unknown = len(problem.path) == 1 and problem.words == "is not known"
        words = "is not an input of the model" if unknown else problem.words
        found.setdefault(_written(problem.path), words)
    return found


def _is_readable(document: Any) -> bool:
    """Whether it is of a size, and not nested deeper, than what follows is made for."""
    waiting, values = [(document, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        values += 1
        if depth > _DEEPEST_DOCUMENT or values + len(waiting) > _LARGEST_DOCUMENT:
            return False
        if isinstance(one, Mapping):
            waiting += [(item, depth + 1) for item in one.values()]
        elif isinstance(one, list):
            waiting += [(item, depth + 1) for item in one]
    return True


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _input_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas with the input as their root. What is not named there is refused, as a slip."""
    schemas = _each_in_json_schema(document["components"]["schemas"])
    schemas["Input"].setdefault("additionalProperties", False)
    return {"$ref": _INPUT, "components": {"schemas": schemas}}


def _each_in_json_schema(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _in_json_schema(schema) for name, schema in named.items()}


def _in_json_schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_in_json_schema(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    made = {
        key: value
        if key in _VALUES
        else _each_in_json_schema(value)
        if key in _NAMED and isinstance(value, Mapping)
        else _in_json_schema(value)
        for key, value in node.items()
    }
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
            yield from (_resolved(document, part) for part in parts[:_MOST_ALTERNATIVES])


def _types(kind: Any) -> tuple[str, ...]:
    kinds = kind if isinstance(kind, list) else (kind,)
    return tuple(one for one in kinds if isinstance(one, str))


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[OutputPath, Any]]:
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
