"""Answers that must be JSON are read as soon as a process can be had: they are paid for."""

import json
import subprocess
from typing import Any

import pytest

from mediagate_server.generations import answer_checks
from mediagate_server.generations.answer_checks import AnswerChecks
from mediagate_server.generations.structured import Reading
from mediagate_server.worker_processes import WorkerProcesses

NOT_HARMLESS = json.dumps({"type": "string", "pattern": "^a+$"})


async def test_no_process_can_be_started_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with the answer."""
    start, failing = subprocess.Popen, [True] * 9

    def starts(*arguments: Any, **options: Any) -> Any:
        if failing:
            failing.pop()
            raise BlockingIOError
        return start(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", starts)
    monkeypatch.setattr(answer_checks, "_PAUSE", 0.0)
    async with WorkerProcesses() as workers:
        assert await AnswerChecks(workers).read('"aaa"', NOT_HARMLESS, "t") == Reading('"aaa"')
    assert not failing
