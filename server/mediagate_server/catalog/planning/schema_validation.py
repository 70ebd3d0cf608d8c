"""JSON Schema validation with untrusted schemas, in a killable process where it may be expensive.

A small plain schema on a small value is checked in this process: its unfolded size times the number
of values bounds the work to some hundred thousand steps of about 10 ns. Everything else goes to a
worker with a time and a memory limit, at 0.2 ms more.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from mediagate_server.catalog.request import ResponseFormat
from mediagate_server.catalog.schemas import json_schema
from mediagate_server.catalog.schemas.json_schema import (
    SchemaError,
    SchemaTooComplex,
    cheap_schema,
    count_values,
)
from mediagate_server.catalog.schemas.openapi import TOO_COMPLEX, ModelSchema, format_problems
from mediagate_server.errors import InvalidRequest, RateLimited
from mediagate_server.workers.worker_pool import (
    MIB,
    JobTimeout,
    QueueFull,
    Task,
    WorkerCrashed,
    WorkerPool,
    WorkerStartFailed,
)

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""Maximum bytes of JSON: the schema is part of every prompt, and billed as such."""
SCHEMA_FIELD: Final = "response_format.json_schema"


def check_schema_length(form: ResponseFormat) -> str:
    """Serialise the schema. Raises InvalidRequest where it is too long."""
    text = json.dumps(form.schema)
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise InvalidRequest.of(
            SCHEMA_FIELD, f"must have at most {MAX_SCHEMA_BYTES:,} bytes as JSON"
        )
    return text


SCHEMA_CHECK_SECONDS: Final = 2.0
"""Maximum seconds to compile a schema, or to validate one value by it."""
_COMPILE: Final = Task("mediagate_server.catalog.schemas.json_schema:compile_schema", 256 * MIB)
_FIND_PROBLEMS: Final = Task(
    "mediagate_server.catalog.schemas.json_schema:find_problems", 256 * MIB
)
MAX_STEPS_IN_PROCESS: Final = 200_000
"""Maximum of steps times values for validation in this process."""
_MAX_VALUES: Final = 1_000
SCHEMA_TOO_SLOW: Final = "takes too much time or memory to check by"


def is_cheap_check(steps: int | None, value: Any) -> bool:
    """Whether to validate in this process, by a schema of so many `json_schema.cheap_steps`."""
    if steps is None:
        return False
    values = count_values(value, _MAX_VALUES)
    return values <= _MAX_VALUES and steps * values <= MAX_STEPS_IN_PROCESS


class SchemaValidator:
    """Schema validation in process or in workers, which tenants share fairly."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers

    async def check_response_format(self, response_format: ResponseFormat, tenant: str) -> None:
        """Raises InvalidRequest for a schema that no answer could be validated by in time."""
        if response_format.kind != "json_schema":
            return
        text = check_schema_length(response_format)
        try:
            if cheap_schema(text) is None:
                await self._compile(f"[{text}, false]".encode(), tenant)
        except SchemaError as error:
            raise InvalidRequest.of(SCHEMA_FIELD, str(error)) from None

    async def prepare(self, schema: ModelSchema, tenant: str) -> None:
        """Find out whether a model's schema can validate inputs. InvalidRequest: it never can."""
        if schema.is_checkable is None:
            await self._check_compilable(schema, tenant)
        if schema.refusal:
            raise InvalidRequest.of("model", schema.refusal)

    async def _check_compilable(self, schema: ModelSchema, tenant: str) -> None:
        if schema.cheap_steps is not None:
            schema.is_checkable = schema.compiled is not None
            return
        try:
            await self._compile(json.dumps([schema.input_schema, True]).encode(), tenant)
        except SchemaTooComplex:
            schema.refuse()
        except SchemaError:
            schema.is_checkable = False
        else:
            schema.is_checkable = True

    async def input_problems(
        self, schema: ModelSchema, model_input: Mapping[str, Any], tenant: str
    ) -> dict[str, str]:
        """Validation errors of an input, by path, once the schema is prepared.

        Raises InvalidRequest where validation takes too long.
        """
        if not schema.is_checkable:
            return {}
        if is_cheap_check(schema.cheap_steps, model_input):
            return schema.problems(model_input)
        payload = json.dumps([schema.input_schema, True, model_input]).encode()
        try:
            result = await self._run(_FIND_PROBLEMS, payload, tenant)
        except (JobTimeout, WorkerCrashed):
            message = "take too much time or memory to check by the model's schema"
            raise InvalidRequest.of("input", message) from None
        try:
            return format_problems(json_schema.parse_problems(result))
        except SchemaError:
            raise InvalidRequest.of("model", TOO_COMPLEX) from None

    async def _compile(self, payload: bytes, tenant: str) -> None:
        """Raises SchemaError."""
        try:
            result = await self._run(_COMPILE, payload, tenant)
        except (JobTimeout, WorkerCrashed):
            raise SchemaTooComplex(SCHEMA_TOO_SLOW) from None
        json_schema.raise_schema_error(result)

    async def _run(self, task: Task, payload: bytes, tenant: str) -> bytes:
        try:
            return await self._workers.run(
                task, payload, seconds=SCHEMA_CHECK_SECONDS, tenant=tenant
            )
        except QueueFull:
            message = "too many requests of this tenant wait for a check by their schema"
            raise RateLimited(message, retry_after=1.0) from None
        except WorkerStartFailed:
            message = "no process can be started for a check by a schema"
            raise RateLimited(message, retry_after=5.0) from None
