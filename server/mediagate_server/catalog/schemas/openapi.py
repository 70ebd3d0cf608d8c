"""OpenAPI document of a model, as Cog writes it: input schema, and the paths of links in its
output.

Cog writes OpenAPI 3.0, whose `nullable` and boolean `exclusiveMinimum` JSON Schema does not know,
and patterns of Python's `re`; they are converted before anything is validated.
"""

import re
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
"""Wildcard in a path: every item of a list, or every property of an object."""

OutputPath = tuple[str, ...]

_MAX_DEPTH = 12
_MAX_VISITED_SCHEMAS = 1_000
"""Maximum schemas searched for links: one may refer to itself."""
_MAX_ALTERNATIVES = 100
"""Maximum alternatives of a combined schema that are searched."""
_MAX_DOCUMENT_VALUES: Final = 20_000
"""Maximum values of a document; usual ones have some thousand."""
_MAX_DOCUMENT_DEPTH: Final = 64
TOO_COMPLEX: Final = "publishes a schema that is too large or too complex to check by"
_INPUT, _OUTPUT = "#/components/schemas/Input", "#/components/schemas/Output"
_COMBINING_KEYWORDS = ("allOf", "anyOf", "oneOf")
_NAME_KEYWORDS: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
"""Keywords whose keys are property names, not keywords."""
_PYTHON_ESCAPE: Final = re.compile(r"\\(?:(Z)|([1-9])|.)|\(\?(?:[=!>(]|<[=!]|P=)", re.DOTALL)
"""In a pattern of Python's: an escape, or the opening of what no linear matcher can do."""
_VALUE_KEYWORDS: Final = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords that hold values, not schemas."""


@dataclass(frozen=True, slots=True)
class PublishedInput:
    """One input by its schema. Empty or None: the schema does not say.

    `types` are JSON Schema's type names, without null.
    """

    types: frozenset[str]
    values: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    default: Any = None
    required: bool = False


class ModelSchema:
    """Input and output schema of one model version, as far as its document has them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """`document` may be empty or unusable: then inputs cannot be validated.

        Nothing is compiled before it is needed: see schema_validation for where that is done.
        """
        self.refusal = ""
        """Why runs by this schema are rejected; empty: they are not."""
        if not _is_readable(document):
            document, self.refusal = {}, TOO_COMPLEX
        self._document = document
        self._input = _resolve(document, {"$ref": _INPUT})
        self._output = _resolve(document, {"$ref": _OUTPUT})
        self.input_schema = _input_schema(document) if self._input else None
        """JSON Schema of the inputs; None where there is none to validate by."""
        self.is_checkable: bool | None = None if self.input_schema else False
        """Whether inputs can be validated; None: not determined yet, see schema_validation."""

    def refuse(self) -> None:
        """Mark the schema as one that nothing can be validated by in time."""
        self.refusal, self.input_schema, self.is_checkable = TOO_COMPLEX, None, False

    @cached_property
    def compiled(self) -> CompiledSchema | None:
        """Input schema, compiled in this process; None where there is none."""
        if self.input_schema is None:
            return None
        try:
            return CompiledSchema(self.input_schema, formats=True)
        except SchemaError:
            return None

    @cached_property
    def cheap_steps(self) -> int | None:
        """Validation steps of a small plain input schema; None: compile it in a worker process."""
        return None if self.input_schema is None else cheap_steps(self.input_schema)

    def problems(self, model_input: Mapping[str, Any]) -> dict[str, str]:
        """Validation errors of an input, by path (`prompt`, `images[2]`); empty: it is valid."""
        self.is_checkable = self.compiled is not None
        return {} if self.compiled is None else format_problems(self.compiled.problems(model_input))

    @property
    def inputs(self) -> dict[str, PublishedInput]:
        """All inputs of the schema."""
        return {name: published for name in self._properties if (published := self.input(name))}

    def input(self, name: str) -> PublishedInput | None:
        """One input; None where the schema has none such."""
        schema = self._properties.get(name)
        if not isinstance(schema, Mapping):
            return None
        alternatives = [*_alternatives(self._document, schema)]
        listed = [
            alternative["enum"]
            for alternative in alternatives
            if isinstance(alternative.get("enum"), list)
        ]
        return PublishedInput(
            types=frozenset(
                kind for alternative in alternatives for kind in _types(alternative.get("type"))
            )
            - {"null"},
            values=tuple(listed[0]) if listed else (),
            minimum=_number(schema.get("minimum")),
            maximum=_number(schema.get("maximum")),
            default=schema.get("default"),
            required=name in self._required,
        )

    @cached_property
    def _required(self) -> frozenset[str]:
        required = self._input.get("required")
        names = required if isinstance(required, list) else ()
        return frozenset(name for name in names if isinstance(name, str))

    @property
    def _properties(self) -> Mapping[str, Any]:
        properties = self._input.get("properties")
        return properties if isinstance(properties, Mapping) else {}

    def takes_list(self, name: str) -> bool | None:
        """Whether an input takes a list; None where the schema does not say."""
        published = self.input(name)
        return "array" in published.types if published and published.types else None

    @property
    def streams_text(self) -> bool:
        """Whether the output is streamed as pieces of one text."""
        output = self._output
        pieces = _resolve(self._document, output.get("items"))
        return (
            output.get("x-cog-array-type") == "iterator"
            and output.get("x-cog-array-display") == "concatenate"
            and pieces.get("type") == "string"
            and pieces.get("format") != "uri"
        )

    @cached_property
    def link_paths(self) -> tuple[OutputPath, ...]:
        """Paths of the links to media in the output: keys and ANY_STEP, in order."""
        return self._link_paths(self._output)

    @cached_property
    def input_link_paths(self) -> frozenset[OutputPath]:
        """Paths of the inputs that hold links and never any other text."""
        return frozenset(self._link_paths(self._input, exclusive=True))

    def _link_paths(
        self, root: Mapping[str, Any], *, exclusive: bool = False
    ) -> tuple[OutputPath, ...]:
        """Paths of links below a schema; `exclusive`: and of no other text."""
        paths: dict[OutputPath, None] = {}
        text_paths: set[OutputPath] = set()
        pending: deque[tuple[OutputPath, Any]] = deque([((), root)])
        budget = _MAX_VISITED_SCHEMAS
        while pending and budget > 0:
            path, schema = pending.popleft()
            for alternative in _alternatives(self._document, schema):
                budget -= 1
                if alternative.get("format") == "uri":
                    paths[path] = None
                elif "string" in _types(alternative.get("type")):
                    text_paths.add(path)
                if len(path) < _MAX_DEPTH:
                    capacity = max(_MAX_VISITED_SCHEMAS - len(pending), 0)
                    steps = islice(_subschemas(alternative), capacity)
                    pending.extend((path + step, inner) for step, inner in steps)
        return tuple(path for path in paths if not (exclusive and path in text_paths))


def format_problems(problems: Iterable[SchemaProblem]) -> dict[str, str]:
    """Validation errors in words for callers, by path of the input."""
    texts: dict[str, str] = {}
    for problem in problems:
        unknown = len(problem.path) == 1 and problem.message == "is not known"
        message = "is not an input of the model" if unknown else problem.message
        texts.setdefault(_format_path(problem.path), message)
    return texts


def _is_readable(document: Any) -> bool:
    """Whether a document is within the limits of size and depth."""
    pending, values = [(document, 0)], 0
    while pending:
        node, depth = pending.pop()
        values += 1
        if depth > _MAX_DOCUMENT_DEPTH or values + len(pending) > _MAX_DOCUMENT_VALUES:
            return False
        if isinstance(node, Mapping):
            pending += [(item, depth + 1) for item in node.values()]
        elif isinstance(node, list):
            pending += [(item, depth + 1) for item in node]
    return True


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _input_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document's schemas with the input as root. Unknown inputs are typing errors: rejected."""
    schemas = _to_json_schemas(document["components"]["schemas"])
    schemas["Input"].setdefault("additionalProperties", False)
    return {"$ref": _INPUT, "components": {"schemas": schemas}}


def _to_json_schemas(schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _to_json_schema(schema) for name, schema in schemas.items()}


def _to_json_schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_to_json_schema(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    converted = {
        key: value
        if key in _VALUE_KEYWORDS
        else _to_json_schemas(value)
        if key in _NAME_KEYWORDS and isinstance(value, Mapping)
        else _to_json_schema(value)
        for key, value in node.items()
    }
    _convert_pattern(converted)
    for bound, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(converted.get(strict), bool) and converted.pop(strict) and bound in converted:
            converted[strict] = converted.pop(bound)
    if converted.pop("nullable", False) is True:
        if not isinstance(converted.get("type"), str) or "enum" in converted:
            return {"anyOf": [converted, {"type": "null"}]}
        converted["type"] = [converted["type"], "null"]
    return converted


def _convert_pattern(schema: dict[str, Any]) -> None:
    """Write Python's end of text as others do, and leave to the model what only Python can match.

    One such pattern would make the schema one that nothing is validated by.
    """
    pattern = schema.get("pattern")
    if not isinstance(pattern, str):
        return
    for escape in _PYTHON_ESCAPE.finditer(pattern):
        if escape[2] or escape[0].startswith("("):
            del schema["pattern"]
            return
    schema["pattern"] = _PYTHON_ESCAPE.sub(
        lambda escape: r"\z" if escape[1] else escape[0], pattern
    )


def _resolve(document: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    """Follow references to a schema; empty where there is none."""
    for _ in range(_MAX_DEPTH):
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
    """A schema and the schemas that it combines, one level deep."""
    resolved = _resolve(document, schema)
    yield resolved
    for word in _COMBINING_KEYWORDS:
        alternatives = resolved.get(word)
        if isinstance(alternatives, list):
            yield from (
                _resolve(document, alternative) for alternative in alternatives[:_MAX_ALTERNATIVES]
            )


def _types(kind: Any) -> tuple[str, ...]:
    kinds = kind if isinstance(kind, list) else (kind,)
    return tuple(name for name in kinds if isinstance(name, str))


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[OutputPath, Any]]:
    """The schemas one step further in."""
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        yield from (((name,), inner) for name, inner in properties.items())
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), Mapping):
            yield (ANY_STEP,), schema[word]


def _format_path(path: tuple[str | int, ...]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
