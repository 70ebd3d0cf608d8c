"""A task in the background that a bug ends: told when it happens, not when the server ends."""

import asyncio
from datetime import UTC, datetime

import pytest

from mediagate_server.catalog.drift import CatalogDriftMonitor
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import BackgroundJob, start_background_task
from tests.catalog.builders import shipped_catalog


def count(job: BackgroundJob) -> float:
    """How many bugs have ended this job."""
    labels = {"work": job.value}
    return metrics.REGISTRY.get_sample_value("mediagate_unexpected_errors_total", labels) or 0


async def test_an_unhandled_exception_is_reported_at_once() -> None:
    """Nobody has to await the task for that; a cancel is none."""
    before, ended = count(BackgroundJob.RELOAD), asyncio.Event()

    async def breaks() -> None:
        raise KeyError("a bug")

    task = start_background_task(BackgroundJob.RELOAD, breaks())
    task.add_done_callback(lambda _: ended.set())
    await ended.wait()
    assert count(BackgroundJob.RELOAD) == before + 1
    parked = start_background_task(BackgroundJob.RELOAD, asyncio.Event().wait())  # type: ignore[arg-type]
    parked.cancel()
    await asyncio.wait([parked])
    assert count(BackgroundJob.RELOAD) == before + 1


async def test_exceptions_of_the_catalog_watch(caplog: pytest.LogCaptureFixture) -> None:
    """What its own look does not catch, too."""
    before = count(BackgroundJob.CATALOG_DRIFT_MONITOR)

    def hours() -> float:
        raise KeyError("a bug")

    async def find(_: object) -> None:
        raise AssertionError

    watch = CatalogDriftMonitor(
        shipped_catalog,
        find,  # type: ignore[arg-type]
        hours=hours,
        today=lambda: datetime.now(UTC).date(),
        count=lambda _, __: None,
    )
    async with watch:
        assert watch._task is not None
        await asyncio.wait([watch._task])
        assert count(BackgroundJob.CATALOG_DRIFT_MONITOR) == before + 1
    assert "never retrieved" not in caplog.text
