"""Running sandboxes for tests: a quick one, and one whose clock stands still."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest

from mediagate_sandbox.clock import Clock, ManualClock
from mediagate_sandbox.server import Sandbox, SandboxSettings
from tests.conftest import REQUIRE_ALL

from .sandbox_client import SandboxClient

# These may skip where there is no document to hold answers against, and a skip fails the run where
# everything is required: there they are left out.
if REQUIRE_ALL and not os.environ.get("MEDIAGATE_TEST_OPENAPI"):
    collect_ignore = ["test_openapi.py"]

Opener = Callable[..., AbstractAsyncContextManager[SandboxClient]]


@asynccontextmanager
async def _open(clock: Clock | None = None, **settings: object) -> AsyncIterator[SandboxClient]:
    quick = {
        "port": 0,
        "time_scale": 0.001,
        "token_time_scale": 0.01,
        "stream_linger": 0,
        **settings,
    }
    async with (
        Sandbox(SandboxSettings(**quick), clock=clock) as sandbox,  # type: ignore[arg-type]
        aiohttp.ClientSession() as session,
    ):
        yield SandboxClient(sandbox, session)


@pytest.fixture
def open_sandbox() -> Opener:
    """Opens a sandbox with the settings given, on a port of its own."""
    return _open


@pytest.fixture
async def sandbox_client() -> AsyncIterator[SandboxClient]:
    """A caller of a sandbox that runs a thousand times faster than the models."""
    async with _open() as caller:
        yield caller


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only moves when told to."""
    return ManualClock()


@pytest.fixture
async def frozen_clock_client(clock: ManualClock) -> AsyncIterator[SandboxClient]:
    """A caller of a sandbox that lives by `clock`, one real second per model second."""
    async with _open(clock, time_scale=1, token_time_scale=1) as caller:
        yield caller
