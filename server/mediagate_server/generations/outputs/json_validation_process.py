"""Validation of answers that must be JSON, in a process that can be killed where it may be dear.

An answer is paid for when it is checked, so it is never refused for want of a place: it waits for
its tenant's turn. What cannot be checked in time is not the JSON that was asked for.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from mediagate_server.catalog.planning.schema_validation import (
    MAX_STEPS_IN_PROCESS,
    SCHEMA_CHECK_SECONDS,
)
from mediagate_server.catalog.schemas.json_schema import cheap_schema
from mediagate_server.generations.outputs.json_output import JsonReading, read_json
from mediagate_server.workers.worker_pool import (
    MIB,
    JobTimeout,
    Task,
    WorkerCrashed,
    WorkerPool,
    WorkerStartFailed,
)

_log = structlog.get_logger()

ReadJsonAnswer = Callable[[str, str, str], Awaitable[JsonReading]]
"""`(answer, schema, tenant)` -> what `structured.read_json` makes of it."""

_READ: Final = Task("mediagate_server.generations.outputs.json_output:read_json_task", 512 * MIB)
_LONGEST: Final = 16 * 1024
"""Characters of an answer that is parsed in this process."""
_NO_BOUND: Final = 1_000_000
_PAUSE: Final = 1.0
"""Seconds until a worker is asked for again, where none could be started."""


async def read_in_process(answer: str, schema: str, _tenant: str) -> JsonReading:
    """In this process, whatever it costs: for tests."""
    return read_json(answer, schema)


class JsonAnswerValidator:
    """Reads answers by workers, or here where that is cheap for certain."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers

    async def read(self, answer: str, schema: str, tenant: str) -> JsonReading:
        """Parse and validate as `json_output.read_json` does. Raises TaskFailed only."""
        if len(answer) <= _LONGEST and len(schema) <= _LONGEST:
            found = cheap_schema(schema)
            if found is not None and found[0] * len(answer) <= MAX_STEPS_IN_PROCESS:
                return read_json(answer, schema)
        payload = json.dumps([answer, schema]).encode()
        try:
            result = await self._read_by_worker(payload, tenant)
        except (JobTimeout, WorkerCrashed) as error:
            _log.warning("answer_check_killed", cause=type(error).__name__, tenant=tenant)
            return JsonReading(
                problem="it took too much time or memory to be checked by the schema"
            )
        text, problem = json.loads(result)
        return JsonReading(text, problem)

    async def _read_by_worker(self, payload: bytes, tenant: str) -> bytes:
        """As soon as a worker can be had: nothing is wrong with the answer where none can."""
        while True:
            try:
                return await self._workers.run(
                    _READ,
                    payload,
                    seconds=SCHEMA_CHECK_SECONDS,
                    tenant=tenant,
                    max_waiting=_NO_BOUND,
                )
            except WorkerStartFailed:
                await asyncio.sleep(_PAUSE)
