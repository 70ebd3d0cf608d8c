"""Secrets and undelivered webhooks, through the whole server and the client."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from mediagate.v1.admin_pb2 import OverrideBudgetRequest
from mediagate.v1.generations_pb2 import DeleteGenerationRequest
from mediagate.v1.webhook_pb2 import WebhookEventType
from mediagate_client import AsyncClient, InvalidRequest, NotFound, verify_webhook
from mediagate_sandbox.server import Sandbox
from mediagate_server.config import Budget, Settings
from mediagate_server.store.sqlite import SqliteStore
from tests.rpc.stubs import OpenServer, Stubs
from tests.rpc.tenant_keys import channel_of, tenant, tenant_key
from tests.webhooks.ended_generations import deliver_end
from tests.webhooks.webhook_receiver import receiving

UNIT = 3_000_000
"""Nano-dollars: what one picture of flux-schnell costs."""
INSIDE: dict[str, Any] = {"webhook_networks": ("127.0.0.0/8",)}


async def test_the_returned_secret_verifies_webhooks(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """What was sent before the first secret was asked for, and what is sent after each rotation."""
    async with (
        receiving() as receiver,
        open_server(sandbox.url, **INSIDE) as (_, server),
        AsyncClient(server.grpc_address) as client,
    ):
        await client.generate_image("A lighthouse", webhook_url=receiver.url)
        first = await client.rotate_webhook_secret()
        assert not first.HasField("previous_expire_time")
        (got,) = await receiver.received(1)
        assert verify_webhook(got.body, got.headers, first.secret).generation.images.images
        second = await client.rotate_webhook_secret("local")
        assert second.HasField("previous_expire_time")
        assert second.secret != first.secret
        await client.generate_text("Hello", webhook_url=receiver.url)
        got = (await receiver.received(2))[1]
        for response in (first, second):
            assert verify_webhook(got.body, got.headers, response.secret).generation.text.text


async def test_undelivered_events_are_listed_and_redelivered(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Any
) -> None:
    """Page by page, by tenant; what is taken is gone from the list."""
    async with receiving() as receiver:
        receiver.status = 410
        async with SqliteStore(tmp_path / "data") as store:
            for name in "abc":
                await deliver_end(store, name, receiver.url)
        async with (
            open_server(sandbox.url, **INSIDE) as (_, server),
            AsyncClient(server.grpc_address) as client,
        ):
            await receiver.received(3)
            receiver.status = 500
            while (
                len(undelivered := [webhook async for webhook in client.undelivered_webhooks()]) < 3
            ):
                pass
            ids = [
                webhook.id async for webhook in client.undelivered_webhooks("local", page_size=1)
            ]
            assert ids == ["evt_a", "evt_b", "evt_c"] == [webhook.id for webhook in undelivered]
            assert {(webhook.tenant, webhook.host, webhook.tries) for webhook in undelivered} == {
                ("local", "127.0.0.1", 1)
            }
            again = await client.redeliver_webhook("evt_b")
            assert (again.tries, again.http_status) == (2, 500)
            assert again.generation_id == "gen_b"
            receiver.status = 200
            assert (await client.redeliver_webhook("evt_b")).http_status == 200
            assert [webhook.id async for webhook in client.undelivered_webhooks()] == [
                "evt_a",
                "evt_c",
            ]
            with pytest.raises(NotFound) as raised:
                await client.redeliver_webhook("evt_b")
            assert raised.value.reason == "INVALID_REQUEST"


async def test_events_of_deleted_generations_have_no_content(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Any
) -> None:
    """A receiver that is back too late hears how it ended and what it cost, and nothing else."""
    canary = "zq7-canary"
    async with (
        receiving() as receiver,
        open_server(sandbox.url, **INSIDE) as (stubs, server),
        AsyncClient(server.grpc_address) as client,
    ):
        receiver.status = 410
        generation = await client.generate_text(f"[[say={canary}]] x", webhook_url=receiver.url)
        (got,) = await receiver.received(1)
        assert canary.encode() in got.body
        while not (undelivered := [webhook async for webhook in client.undelivered_webhooks()]):
            pass
        await stubs.generations.DeleteGeneration(DeleteGenerationRequest(id=generation.id))
        receiver.status = 200
        await client.redeliver_webhook(undelivered[0].id)
        again = (await receiver.received(2))[1]
        secret = (await client.rotate_webhook_secret()).secret
        event = verify_webhook(again.body, again.headers, secret)
        assert canary.encode() not in again.body
        assert event.generation.HasField("erase_time")
        assert event.generation.cost.usd_nanos == generation.cost.usd_nanos
        assert event.time == generation.complete_time
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or canary.encode() not in file.read_bytes()


async def test_budget_thresholds_are_sent_as_webhooks(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Each threshold once in its period, where the tenant's table says; signed with its secret."""
    async with receiving() as receiver:
        pictures = Budget(name="pictures", period="total", limit_usd=Decimal("0.012"))
        notified = tenant("told-of", budgets=(pictures,), webhook_url=receiver.url)
        settings = {**INSIDE, "tenants": (notified, tenant("boss", admin=True))}
        async with open_server(sandbox.url, **settings) as (_, server):
            key, admin = tenant_key("told-of"), tenant_key("boss")
            async with AsyncClient(server.grpc_address, api_key=key) as client:
                for _ in range(4):
                    await client.generate_image("A lighthouse", model="flux-schnell")
            await receiver.received(3)
            async with AsyncClient(server.grpc_address, api_key=admin) as client:
                secret = (await client.rotate_webhook_secret("told-of")).secret
            seen = [
                verify_webhook(webhook.body, webhook.headers, secret) for webhook in receiver.all
            ]
            assert {event.type for event in seen} == {
                WebhookEventType.WEBHOOK_EVENT_TYPE_BUDGET_THRESHOLD
            }
            assert not any(event.HasField("generation") for event in seen)
            thresholds = sorted(
                (event.budget.percent, event.budget.spent_usd_nanos) for event in seen
            )
            assert thresholds == [(50, 2 * UNIT), (80, 4 * UNIT), (100, 4 * UNIT)]
            assert {(event.budget.budget, event.budget.limit_usd_nanos) for event in seen} == {
                ("pictures", 4 * UNIT)
            }


async def test_thresholds_of_an_override_are_sent_too(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """An override's, when it is reached; each event is one of its own."""
    async with receiving() as receiver:
        budget = Budget(name="pictures", period="total", limit_usd=Decimal("0.003"))
        notified = tenant("raised", budgets=(budget,), webhook_url=receiver.url)
        settings = {**INSIDE, "tenants": (notified, tenant("boss", admin=True))}
        async with (
            open_server(sandbox.url, **settings) as (_, server),
            AsyncClient(server.grpc_address, api_key=tenant_key("raised")) as client,
            channel_of(server.grpc_address, "boss") as channel,
        ):
            await client.generate_image("A lighthouse", model="flux-schnell")
            await receiver.received(3)
            raised = OverrideBudgetRequest(
                tenant="raised", budget="pictures", limit_usd_nanos=2 * UNIT
            )
            raised.expire_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
            await Stubs.on(channel).admin.OverrideBudget(raised)
            await client.generate_image("A lighthouse", model="flux-schnell")
            await receiver.received(6)
    budgets = [got.json["budget"] for got in receiver.all]
    limits = sorted((int(seen["limitUsdNanos"]), seen["percent"]) for seen in budgets)
    assert limits == [(units * UNIT, percent) for units in (1, 2) for percent in (50, 80, 100)]
    assert len({got.id for got in receiver.all}) == 6


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "http://example.com/", "https://u:w@example.com/", "x", "ftp://a/"],
)
def test_a_tenants_url_is_validated_like_a_callers(url: str) -> None:
    """Where the configuration is read, without its words."""
    with pytest.raises(ValueError, match=r"webhook_url|URL|user") as raised:
        Settings(tenants=(tenant("acme", webhook_url=url),))
    assert "example" not in str(raised.value)


async def test_unknown_tenants_and_events_are_not_found(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """NOT_FOUND, and the field named."""
    async with (
        open_server(sandbox.url) as (_, server),
        AsyncClient(server.grpc_address) as client,
    ):
        with pytest.raises(NotFound) as raised:
            await client.rotate_webhook_secret("nobody")
        assert [violation.field for violation in raised.value.violations] == ["tenant"]
        with pytest.raises(NotFound):
            assert [webhook async for webhook in client.undelivered_webhooks("nobody")]
        with pytest.raises(InvalidRequest):
            await client.rotate_webhook_secret("")
