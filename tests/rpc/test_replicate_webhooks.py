"""Webhooks through the whole server: upstream signs them, and nobody else can."""

import re
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from mediagate.v1 import models_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_sandbox.webhook_signing import WebhookSigner, new_secret
from mediagate_server.http.replicate_webhooks import WebhookOutcome
from mediagate_server.observability import metrics
from tests.builders import image_request, stream_text_request
from tests.rpc.generation_waits import inject_faults
from tests.rpc.stubs import OpenServer, Stubs
from tests.server_process import free_ports


def counted() -> dict[str, float]:
    """Webhooks by outcome, in this process."""
    return {o.value: metrics.upstream_webhooks.labels(o.value)._value.get() for o in WebhookOutcome}


def reachable() -> dict[str, Any]:
    """Settings of a server that upstream can reach."""
    (port,) = free_ports(1)
    return {"web_address": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{port}"}


async def generate(stubs: Stubs) -> str:
    """The prediction of a picture that is there."""
    answer = await stubs.image.GenerateImage(image_request(prompt="A lighthouse"))
    return answer.generation.attempts[0].prediction_id


async def webhook_for(sandbox: Sandbox, prediction_id: str) -> tuple[str, bytes]:
    """Where upstream posts news of a prediction, and what it posts."""
    headers = {"Authorization": "Bearer any"}
    url = f"{sandbox.base_url}/predictions/{prediction_id}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        body = await answer.read()
        return (await answer.json())["webhook"], body


async def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of an answer that says nothing else."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        assert await answer.read() == b""
        return answer.status


async def test_a_signed_webhook_ends_a_generation(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Under an address that names the attempt, which is not what a caller could guess."""
    before = counted()
    async with open_server(sandbox.url, **reachable()) as (stubs, _):
        prediction_id = await generate(stubs)
        url, _ = await webhook_for(sandbox, prediction_id)
        assert re.fullmatch(
            r"http://127\.0\.0\.1:\d+/webhooks/replicate/att_\w+\.[0-9a-f]{64}", url
        )
        while counted()["taken"] == before["taken"]:
            await stubs.models.ListModels(models_pb2.ListModelsRequest())
    after = counted()
    assert {name for name in after if after[name] != before[name]} == {"taken"}


async def test_forged_and_replayed_webhooks_are_ignored(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Forged, replayed, also after a restart: accepted 0. A rotation loses nothing."""
    async with open_server(sandbox.url, **reachable()) as (stubs, _):
        url, body = await webhook_for(sandbox, await generate(stubs))
        secret = await _secret(sandbox)
        now = datetime.now(UTC)
        forged = WebhookSigner(new_secret()).headers("msg_forged", now, body)
        assert await post(url, body, forged) == 401
        assert await post(url, body, {}) == 401
        good = WebhookSigner(secret).headers("msg_good", now, body)
        assert await post(url, body + b" ", good) == 401
        assert await post(url, body, good) == 200
        assert await post(url, body, good) == 409
    async with open_server(sandbox.url, **reachable()) as (stubs, server):
        url = re.sub(r"127\.0\.0\.1:\d+", server.web_address, url)
        assert await post(url, body, good) == 409
        rotated = WebhookSigner(await _rotate(sandbox))
        old = WebhookSigner(secret).headers("msg_old", now, body)
        assert await post(url, body, rotated.headers("msg_new", now, body)) == 200
        assert await post(url, body, old) == 401


async def test_without_a_public_url_there_is_no_webhook_port(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Without a public URL upstream is told of no webhook, and every end is found by asking."""
    async with open_server(sandbox.url) as (stubs, server):
        prediction_id = await generate(stubs)
        assert server.web_address == ""
        with pytest.raises(KeyError):
            await webhook_for(sandbox, prediction_id)


async def _secret(sandbox: Sandbox) -> str:
    url = f"{sandbox.base_url}/webhooks/default/secret"
    headers = {"Authorization": "Bearer any"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return str((await answer.json())["key"])


async def _rotate(sandbox: Sandbox) -> str:
    url = f"{sandbox.url}/sandbox/webhooks/secret"
    async with aiohttp.ClientSession() as session, session.post(url, json={}) as answer:
        return str((await answer.json())["key"])


async def test_a_webhook_ends_an_idle_stream(sandbox: Sandbox, open_server: OpenServer) -> None:
    """The text is whole though its stream never came, long before that would have been given up."""
    await inject_faults(sandbox, {"do": "hang", "on": "stream"})
    async with open_server(sandbox.url, **reachable(), upstream_read_timeout=300.0) as (stubs, _):
        request = stream_text_request(prompt="[[tokens=5]] Hello")
        events = [event async for event in stubs.text.StreamText(request, timeout=25)]
    assert events[-1].completed.usage.output_tokens == 5
    assert "".join(event.delta.text for event in events)
