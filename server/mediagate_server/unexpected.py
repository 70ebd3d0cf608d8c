"""What is told of a bug: its type and its place. Its words may hold anything, prompts included."""

import traceback
from pathlib import Path

import structlog

from mediagate_server import telemetry

_log = structlog.get_logger()


def broke(work: str, error: Exception, **facts: str) -> None:
    """Tell log and metrics that a bug has ended some work, which begins anew."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    telemetry.unexpected_errors.labels(work).inc()
    _log.error(f"{work} broke", error=type(error).__name__, at=_place(error), **facts)


def _place(error: Exception) -> str:
    """Where it was raised: file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
