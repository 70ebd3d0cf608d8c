"""`tls`: https by a certificate that only those trust who are given its file."""

from __future__ import annotations

import asyncio
import ssl
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from cryptography import x509
from replicate.client import Client
from replicate.helpers import FileOutput

from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import Sandbox, SandboxSettings

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL

BARK = "suno-ai/bark:b76242b40d67c76ab6742e987628a2a9ac019e11d56ab96c4e91ce03b79b2787"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    settings = SandboxSettings(port=0, tls=True, time_scale=0, token_time_scale=0, small_files=True)
    async with Sandbox(settings) as running:
        yield running


@pytest.fixture
async def client(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """The official package as it is, pointed at the sandbox by its environment alone."""
    monkeypatch.setenv("SSL_CERT_FILE", str(sandbox.ca_file))
    monkeypatch.setenv("REPLICATE_BASE_URL", sandbox.url)
    client = Client(api_token="any")
    client.poll_interval = 0.005
    yield client
    await client._async_client.aclose()


async def test_the_official_package_gives_file_outputs(client: Client, sandbox: Sandbox) -> None:
    """One, several, in an object: objects that read the file."""
    pictures: Any = await client.async_run(SCHNELL, input={"prompt": "a boat"})
    film = await client.async_run("minimax/video-01", input={"prompt": "a boat"})
    sound: Any = await client.async_run(BARK, input={"prompt": "a boat"})
    for file in (*pictures, film, sound["audio_out"]):
        assert isinstance(file, FileOutput)
        assert file.url.startswith(f"{sandbox.url}/files/")
        assert len(await file.aread()) > 100


async def test_every_link_is_https(client: Client) -> None:
    """Those of a prediction, a page and an upload."""
    prediction = await client.predictions.async_create(version=LLAMA, input={"prompt": "x"})
    await client.predictions.async_create(version=LLAMA, input={"prompt": "x"})
    assert prediction.urls is not None
    assert {"get", "cancel", "stream"} <= set(prediction.urls)
    file = await client.files.async_create(Path(__file__))
    page = await client.models.async_list()
    for url in (*prediction.urls.values(), *file.urls.values(), page.next):
        assert str(url).startswith("https://")
    stream = await client.async_stream(LLAMA, input={"prompt": "x"})
    assert [each.event.value async for each in stream][-1] == "done"


async def test_only_clients_with_the_file_trust_the_certificate(sandbox: Sandbox) -> None:
    """A certificate authority for this machine's names, that no other client believes."""
    assert sandbox.ca_file is not None
    port = sandbox.url.rpartition(":")[2]
    trusting = ssl.create_default_context(cafile=sandbox.ca_file)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    async with aiohttp.ClientSession() as session:
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{port}/"
            async with session.get(url, ssl=trusting) as answer:
                assert answer.status == 200
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url)
    control = SandboxControl(sandbox.url, sandbox.ca_file)
    assert (await asyncio.to_thread(control.state))["seed"] == 1
    (authority,) = x509.load_pem_x509_certificates(sandbox.ca_file.read_bytes())
    assert authority.not_valid_before_utc < datetime.now(UTC) < authority.not_valid_after_utc
    leftovers = list(sandbox.ca_file.parent.iterdir())
    assert leftovers == [sandbox.ca_file], "no private key"


async def test_the_certificate_file_is_written_to_its_path(
    open_sandbox: Opener, tmp_path: Path
) -> None:
    """It names the host and the public one; a temporary one goes with the sandbox."""
    ca_file = tmp_path / "ca.pem"
    settings: dict[str, Any] = {"tls": True, "public_url": "https://box.example:8787"}
    async with open_sandbox(**settings, tls_ca_file=ca_file) as caller:
        assert caller.sandbox.ca_file == ca_file
        port = int(caller.sandbox.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port,
            ssl=ssl.create_default_context(cafile=ca_file),
            server_hostname="box.example",
        )
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
    assert ca_file.exists()
    assert stat.S_IMODE(ca_file.stat().st_mode) & stat.S_IROTH == stat.S_IROTH
    async with open_sandbox(**settings) as caller:
        temporary = caller.sandbox.ca_file
        assert temporary is not None
    assert not temporary.exists()
    with pytest.raises(OSError, match="nowhere"):
        async with open_sandbox(**settings, tls_ca_file=tmp_path / "nowhere" / "ca.pem"):
            pass
    with pytest.raises(ValueError, match="tls_ca_file needs tls"):
        SandboxSettings(tls_ca_file=ca_file)


async def test_faults_break_https_as_well(sandbox: Sandbox) -> None:
    """Connections that are refused, lost and reset within a body."""
    assert sandbox.ca_file is not None
    control = SandboxControl(sandbox.url, sandbox.ca_file)
    context = ssl.create_default_context(cafile=sandbox.ca_file)
    headers = {"Authorization": "Bearer any"}
    async with httpx.AsyncClient(verify=context, headers=headers) as caller:
        for fault in ({"do": "refuse"}, {"do": "lose_answer"}, {"do": "reset_body"}):
            plan = {**fault, "on": "list", "times": 1}
            await asyncio.to_thread(control.faults, plan)
            with pytest.raises(httpx.TransportError):
                await caller.get(f"{sandbox.url}/v1/predictions")
        answer = await caller.get(f"{sandbox.url}/v1/predictions")
        assert answer.status_code == 200
