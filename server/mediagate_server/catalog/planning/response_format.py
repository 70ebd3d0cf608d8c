"""The form of an answer: JSON that is asked for in words, and checked once it is there.

No model of the line-up is known to take a schema of its own, so every one is told in its
instructions; whether it listened is found out at the end (`generations/outputs/json_output.py`).
"""

import json
from collections.abc import Mapping
from typing import Final

from mediagate_server.catalog.models.output_shape import OutputKind, OutputShape
from mediagate_server.catalog.parameters.rule import (
    ParameterOutcome,
    emulated_outcome,
    honoured_outcome,
)
from mediagate_server.catalog.request import ResponseFormat, Value
from mediagate_server.errors import InvalidRequest

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""Bytes of JSON: the schema is part of every prompt, and is paid for as such."""

SCHEMA_FIELD: Final = "response_format.json_schema"
_JSON_INSTRUCTION: Final = (
    "Answer with one JSON value and nothing else: no words before or after it, no Markdown."
)
_SCHEMA_INSTRUCTION: Final = (
    "Answer with one JSON value that is valid by the JSON Schema below, and with nothing else: no "
    "words before or after it, no Markdown.\n\nJSON Schema:\n{schema}"
)
_EMULATED_REASON: Final = "asked for in the instructions, and the answer is checked"


def requested_format(parameters: Mapping[str, Value]) -> ResponseFormat | None:
    """The JSON that the answer must be; None where any text will do."""
    form = parameters.get("response_format")
    return form if isinstance(form, ResponseFormat) and form.kind != "text" else None


def check_schema_length(form: ResponseFormat) -> str:
    """The schema as JSON. Raises InvalidRequest where it is too long."""
    text = json.dumps(form.schema)
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise InvalidRequest.of(
            SCHEMA_FIELD, f"must have at most {MAX_SCHEMA_BYTES:,} bytes as JSON"
        )
    return text


def add_format_instruction(
    parameters: Mapping[str, Value], form: ResponseFormat
) -> dict[str, Value]:
    """The same parameters, with the form asked for at the end of the system prompt."""
    words = _JSON_INSTRUCTION
    if form.kind == "json_schema":
        words = _SCHEMA_INSTRUCTION.format(schema=json.dumps(form.schema, ensure_ascii=False))
    own = str(parameters.get("system_prompt", ""))
    return {**parameters, "system_prompt": f"{own}\n\n{words}" if own else words}


def format_outcome(form: ResponseFormat | None) -> ParameterOutcome:
    """What became of the parameter."""
    return (
        honoured_outcome("text") if form is None else emulated_outcome(form.kind, _EMULATED_REASON)
    )


def format_shape(form: ResponseFormat) -> OutputShape:
    """The output's shape: `field` holds the schema that the answer must be valid by."""
    return OutputShape(OutputKind.JSON_TEXT, json.dumps(form.schema), "application/json")
