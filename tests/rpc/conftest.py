"""Servers in front of what a test wants: a scripted upstream, or the sandbox."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import certifi
import grpc
import pytest
from pydantic import SecretStr

from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_server.app import Server
from mediagate_server.config import Configuration, Settings
from mediagate_server.runtime.clock import Clock

from .scripted_upstream import ScriptedUpstream, open_scripted_upstream
from .stubs import OpenServer, Stubs


@pytest.fixture(scope="session")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate authority of those that httpx trusts."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    file.write_text(first + end)
    return file


@pytest.fixture(autouse=True)
def _one_authority(certificate_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests speak HTTP to loopback: to load all authorities, for each of three HTTP clients, takes
    more than half of the processor time that a server takes to open.
    """
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate_file))


@pytest.fixture
async def scripted_upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that says what the test tells it to."""
    async with open_scripted_upstream() as upstream:
        yield upstream


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """The sandbox, apart from the server, as Replicate is."""
    async with Sandbox(SandboxSettings(port=0)) as opened:
        yield opened


@pytest.fixture
def open_server(tmp_path: Path) -> OpenServer:
    """Opens a server on free ports; always the same data folder. More settings may be named."""

    @asynccontextmanager
    async def opener(
        url: str, *, clock: Clock | None = None, **more: Any
    ) -> AsyncIterator[tuple[Stubs, Server]]:
        if {"public_url", "upstream"} & more.keys():  # Either opens the web port.
            more.setdefault("web_address", "127.0.0.1:0")
        settings = Settings(
            grpc_address="127.0.0.1:0",
            ops_address="127.0.0.1:0",
            upstream_url=url,
            data_dir=tmp_path / "data",
            replicate_api_token=SecretStr("r8_test_token"),
            drain_seconds=1,
            **more,
        )
        async with (
            Server(Configuration(settings), clock) as server,
            grpc.aio.insecure_channel(server.grpc_address) as channel,
        ):
            yield Stubs.on(channel), server

    return opener


@pytest.fixture
async def stubs(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> AsyncIterator[Stubs]:
    """Stubs of a server in front of the scripted upstream."""
    async with open_server(scripted_upstream.url) as (opened, _):
        yield opened


@pytest.fixture
async def sandbox_stubs(sandbox: Sandbox, open_server: OpenServer) -> AsyncIterator[Stubs]:
    """Stubs of a server in front of the sandbox."""
    async with open_server(sandbox.url) as (opened, _):
        yield opened
