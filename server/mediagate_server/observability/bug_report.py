"""Error reporting: an unexpected exception is counted, and logged by its type and its place.

Its message is not logged: it may hold anything, prompts included.
"""

import asyncio
import traceback
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from mediagate_server.observability import metrics

_log = structlog.get_logger()


class BackgroundJob(StrEnum):
    """What a bug can end: the name is that of the log event, the value the metric's label."""

    ACCEPT = "accepting"
    CATALOG_CHECK = "catalog check"
    CATALOG_DRIFT_MONITOR = "catalog watch"
    CHANGE_FEED = "change feed"
    CHECKPOINT = "keeping a text"
    GENERATION = "generation"
    LATE_PREDICTION = "overrun"
    OPERATIONS_SERVER = "operations port"
    RECONCILIATION = "reconciliation"
    RELOAD = "reload"
    RETENTION = "erasing"
    RUN_DURATIONS_LOAD = "reading run durations"
    SWEEP = "sweep"
    UPLOAD_CLEANUP = "cleaning of uploads"
    WEB_SERVER = "web port"
    WEBHOOK_DELIVERY = "webhook"
    WEBHOOK_DISPATCHER = "webhooks"


def report_bug(job: BackgroundJob, error: Exception, **facts: str) -> None:
    """Log and count an exception that ended a job, as an event named `<job>_crashed`.

    As a rule the job is restarted by its owner. `facts` are more fields of the event.
    """
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    metrics.unexpected_errors.labels(job.value).inc()
    event = f"{job.name.lower()}_crashed"
    _log.error(event, error=type(error).__name__, at=_source_line(error), **facts)


def start_background_task(
    job: BackgroundJob, coroutine: Coroutine[Any, Any, None]
) -> "asyncio.Task[None]":
    """An asyncio task whose exception is reported when it happens.

    For tasks that nobody awaits before their owner ends. The owner cancels them.
    """
    task = asyncio.create_task(coroutine, name=job.value)
    task.add_done_callback(lambda ended: _report_exception(job, ended))
    return task


def _report_exception(job: BackgroundJob, ended: "asyncio.Task[None]") -> None:
    error = None if ended.cancelled() else ended.exception()
    if isinstance(error, Exception):
        report_bug(job, error)


def _source_line(error: Exception) -> str:
    """Where it was raised: file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
