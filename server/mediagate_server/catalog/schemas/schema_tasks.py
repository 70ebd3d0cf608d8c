"""Worker tasks: compile a JSON Schema, and validate a value by it.

Payloads and results are JSON. See worker_pool for how they are run, schema_validation for their
caller.
"""

import json
from typing import Any

from mediagate_server.catalog.schemas.json_schema import (
    CompiledSchema,
    SchemaError,
    SchemaProblem,
    SchemaTooComplex,
)

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
