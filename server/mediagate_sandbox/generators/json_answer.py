"""JSON generator: output by the JSON Schema in a prompt, as of a language model.

A schema is read from the first object after the words `JSON Schema`; the answer is the plainest
value that fits it. Patterns are beyond it, as they are beyond some models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

_ONLY_JSON = re.compile(r"\bjson\b.*\b(nothing else|only|no markdown)\b", re.IGNORECASE | re.DOTALL)
_SCHEMA = re.compile(r"json schema", re.IGNORECASE)
_DEEPEST = 8
_WORDS = ("amber", "birch", "cobalt", "dune", "ember", "fjord", "grove", "harbour")
_FORMATS = {
    "date": "2026-11-24",
    "date-time": "2026-11-24T12:00:00Z",
    "email": "somebody@example.com",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "6f7a3c1e-0000-4000-8000-000000000000",
}


def find_schema(texts: Iterable[str]) -> dict[str, Any] | None:
    """Find the JSON Schema in the texts; {} for any JSON; None for plain text."""
    schema_found: dict[str, Any] | None = None
    for text in texts:
        for match in _SCHEMA.finditer(text):
            start = text.find("{", match.end())
            if start >= 0:
                try:
                    schema, _ = json.JSONDecoder().raw_decode(text, start)
                except (ValueError, RecursionError):
                    continue
                return dict(schema)
        if _ONLY_JSON.search(text):
            schema_found = {}
    return schema_found


def answer_for_schema(schema: Mapping[str, Any], random: Random) -> str:
    """Return JSON text that is valid for the schema."""
    if not schema:
        return json.dumps({"answer": random.choice(_WORDS)})
    return json.dumps(_value(schema, schema, random, _DEEPEST), ensure_ascii=False)


def _value(schema: Any, root: Mapping[str, Any], random: Random, left: int) -> Any:
    if not isinstance(schema, dict) or not left:
        return None
    schema = _plain(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return random.choice(schema["enum"])
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            return _value(schema[word][0], root, random, left - 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    match kind or ("object" if "properties" in schema else "string"):
        case "object":
            properties = schema.get("properties", {})
            names = dict.fromkeys([*properties, *schema.get("required", ())])
            return {
                name: _value(properties.get(name, {}), root, random, left - 1) for name in names
            }
        case "array":
            count = max(int(schema.get("minItems", 1)), min(1, int(schema.get("maxItems", 1))))
            items = schema.get("items", {})
            return [_value(items, root, random, left - 1) for _ in range(count)]
        case plain:
            return _plain_value(plain, schema, random)


def _plain_value(kind: str, schema: Mapping[str, Any], random: Random) -> Any:
    match kind:
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return random.random() < 0.5
        case "null":
            return None
        case _:
            return _text(schema, random)


def _plain(schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with references resolved and `allOf` merged."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: Any = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            target = target.get(step, {}) if step and isinstance(target, dict) else target
        schema = dict(target) if isinstance(target, dict) else {}
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for subschema in schema.get("allOf", ()):
        merged |= _plain(subschema, root) if isinstance(subschema, dict) else {}
    return merged


def _number(schema: Mapping[str, Any]) -> int | float:
    """Return the minimum, or the maximum where there is no minimum."""
    step = schema.get("multipleOf", 1)
    low, over = schema.get("minimum"), schema.get("exclusiveMinimum")
    if over is not None and (low is None or over >= low):
        low = over + (step if schema.get("type") == "integer" else min(step, 0.5))
    if low is None:
        high = schema.get("maximum", schema.get("exclusiveMaximum", 1))
        low = min(0, high - (0 if "maximum" in schema else 1))
    fitted = -(-low // step) * step if "multipleOf" in schema else low
    return int(fitted) if float(fitted).is_integer() else fitted


def _text(schema: Mapping[str, Any], random: Random) -> str:
    text = _FORMATS.get(str(schema.get("format")), random.choice(_WORDS))
    text += "." * max(0, int(schema.get("minLength", 0)) - len(text))
    return text[: int(schema.get("maxLength", len(text)))]
