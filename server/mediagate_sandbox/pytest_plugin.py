"""Fixtures for tests of code that calls Replicate: `replicate_sandbox` and what belongs to it.

Installed with the package, found by pytest by itself. It loads nothing of the sandbox until a test
asks for it, and needs no plugin for asyncio: the sandbox runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mediagate_sandbox.control_client import SandboxControl

_START_SECONDS = 30


class ReplicateSandbox(SandboxControl):
    """Sandbox of one test: URL, control client, bill of this test."""

    token = "r8_sandbox"  # noqa: S105 - any token is taken
    """A token it takes."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        """Start a test: earlier bill entries are left out."""
        super().__init__(url, ca_file)
        self.base_url = f"{self.url}/v1"
        self._began = datetime.now(UTC)

    def bill(self, since: datetime | None = None, model: str | None = None) -> Any:
        """Return the bill of this test alone, unless `since` is given."""
        return super().bill(self._began if since is None else since, model)

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment variables of the official Python client, and its trust."""
        trust = {} if self.ca_file is None else {"SSL_CERT_FILE": str(self.ca_file)}
        return {"REPLICATE_API_TOKEN": self.token, "REPLICATE_BASE_URL": self.url, **trust}


@pytest.fixture(scope="session")
def replicate_sandbox_settings() -> dict[str, Any]:
    """Settings of the sandbox (mediagate_sandbox.settings); override the fixture to change them.

    As it is, runs take no time and nothing is limited. `control` stays on: by it each test finds
    the sandbox as if it were new.
    """
    return {
        "time_scale": 0,
        "token_time_scale": 0,
        "creates_per_minute": None,
        "requests_per_minute": None,
        "gets_per_minute": None,
    }


@pytest.fixture(scope="session")
def _replicate_sandbox_address(
    replicate_sandbox_settings: dict[str, Any],
) -> Iterator[tuple[str, Path | None]]:
    if not replicate_sandbox_settings.get("control", True):
        raise pytest.UsageError(
            "replicate_sandbox_settings: control must not be false, for the replicate_sandbox "
            "fixture resets the sandbox by its control endpoints"
        )
    with _running(replicate_sandbox_settings) as address:
        yield address


@pytest.fixture
def replicate_sandbox(
    _replicate_sandbox_address: tuple[str, Path | None],
) -> Iterator[ReplicateSandbox]:
    """A Replicate-compatible API that makes everything up; each test finds it as if it were new.

    `url` is what REPLICATE_BASE_URL takes, `bill()`, `state()` and `fired()` tell what happened,
    `faults({"do": "lose_answer", "on": "create"})` lets things go wrong.
    """
    sandbox = ReplicateSandbox(*_replicate_sandbox_address)
    sandbox.reset()
    yield sandbox
    sandbox.reset()


@pytest.fixture
def replicate_sandbox_environ(
    replicate_sandbox: ReplicateSandbox, monkeypatch: pytest.MonkeyPatch
) -> ReplicateSandbox:
    """The same, with the environment of the official Python client set to it."""
    for name, value in replicate_sandbox.environ.items():
        monkeypatch.setenv(name, value)
    return replicate_sandbox


@contextmanager
def _running(settings: dict[str, Any]) -> Iterator[tuple[str, Path | None]]:
    """Run a sandbox in a thread with its own event loop; gives its URL and its CA file."""
    address: Future[tuple[str, Path | None]] = Future()
    stop: Future[None] = Future()
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(settings, address, stop)), name="replicate sandbox"
    )
    thread.start()
    try:
        yield address.result(_START_SECONDS)
    finally:
        stop.set_result(None)
        thread.join()


async def _serve(
    settings: dict[str, Any], address: Future[tuple[str, Path | None]], stop: Future[None]
) -> None:
    try:
        # Not at the top: pytest loads this module wherever the package is installed.
        server = importlib.import_module("mediagate_sandbox.server")
        async with server.Sandbox(server.SandboxSettings(**{"port": 0, **settings})) as sandbox:
            address.set_result((sandbox.url, sandbox.ca_file))
            await asyncio.wrap_future(stop)
    except ModuleNotFoundError as error:
        missing = f"{error.name} is missing: pip install 'mediagate[sandbox]'"
        address.set_exception(RuntimeError(missing))
    except (OSError, TypeError, ValueError) as error:
        if address.done():
            raise
        # Whoever asked for the sandbox is told why there is none.
        address.set_exception(error)
