"""What is told of a bug: its type and its place. Its words may hold anything, prompts included."""

import asyncio
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from mediagate_server.observability import metrics

_log = structlog.get_logger()


def report_bug(work: str, error: Exception, **facts: str) -> None:
    """Tell log and metrics that a bug has ended some work, which as a rule begins anew."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    metrics.unexpected_errors.labels(work).inc()
    _log.error(f"{work} broke", error=type(error).__name__, at=_place(error), **facts)


def start_background_task(work: str, doing: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """A task that nobody awaits before its owner ends: a bug is told when it ends the task.

    `work` names it in log and metrics and is of a closed set. Its owner cancels it.
    """
    task = asyncio.create_task(doing, name=work)
    task.add_done_callback(lambda done: _tell(work, done))
    return task


def _tell(work: str, done: "asyncio.Task[None]") -> None:
    error = None if done.cancelled() else done.exception()
    if isinstance(error, Exception):
        report_bug(work, error)


def _place(error: Exception) -> str:
    """Where it was raised: file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
