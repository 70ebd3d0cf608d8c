"""Answers that must be JSON are read as soon as a process can be had: they are paid for."""

import json
import subprocess
from typing import Any

import pytest

from mediagate_server.generations.outputs import json_validation_process
from mediagate_server.generations.outputs.json_output import JsonReading
from mediagate_server.generations.outputs.json_validation_process import JsonAnswerValidator
from mediagate_server.workers.worker_pool import WorkerPool

NOT_HARMLESS = json.dumps({"type": "string", "pattern": "^a+$"})


async def test_worker_processes_cannot_start_temporarily(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with the answer."""
    start, failing = subprocess.Popen, [True] * 9

    def starts(*arguments: Any, **options: Any) -> Any:
        if failing:
            failing.pop()
            raise BlockingIOError
        return start(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", starts)
    monkeypatch.setattr(json_validation_process, "_PAUSE", 0.0)
    async with WorkerPool() as workers:
        assert await JsonAnswerValidator(workers).read('"aaa"', NOT_HARMLESS, "t") == JsonReading(
            '"aaa"'
        )
    assert not failing
