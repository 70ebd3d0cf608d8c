"""Response format: JSON output requested by instructions and validated afterwards.

No model of the catalog is known to take a schema of its own, so each gets it in its system prompt;
the answer is validated at the end (`generations/outputs/json_output.py`).
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
"""Maximum bytes of JSON: the schema is part of every prompt, and billed as such."""

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
    """The requested JSON format; None where any text will do."""
    form = parameters.get("response_format")
    return form if isinstance(form, ResponseFormat) and form.kind != "text" else None


def check_schema_length(form: ResponseFormat) -> str:
    """Serialise the schema. Raises InvalidRequest where it is too long."""
    text = json.dumps(form.schema)
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise InvalidRequest.of(
            SCHEMA_FIELD, f"must have at most {MAX_SCHEMA_BYTES:,} bytes as JSON"
        )
    return text


def add_format_instruction(
    parameters: Mapping[str, Value], form: ResponseFormat
) -> dict[str, Value]:
    """The parameters with the format instruction at the end of the system prompt."""
    instruction = _JSON_INSTRUCTION
    if form.kind == "json_schema":
        instruction = _SCHEMA_INSTRUCTION.format(schema=json.dumps(form.schema, ensure_ascii=False))
    system_prompt = str(parameters.get("system_prompt", ""))
    return {
        **parameters,
        "system_prompt": f"{system_prompt}\n\n{instruction}" if system_prompt else instruction,
    }


def format_outcome(form: ResponseFormat | None) -> ParameterOutcome:
    """Outcome of the parameter `response_format`."""
    return (
        honoured_outcome("text") if form is None else emulated_outcome(form.kind, _EMULATED_REASON)
    )


def format_shape(form: ResponseFormat) -> OutputShape:
    """Output shape of JSON text: `field` holds the schema to validate it by."""
    return OutputShape(OutputKind.JSON_TEXT, json.dumps(form.schema), "application/json")
