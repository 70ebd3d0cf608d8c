"""Budgets through a server: who is refused and what is told, and what was spent in the end."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mediagate.v1 import (
    admin_pb2,
    cost_pb2,
    generation_pb2,
    generations_pb2,
    image_pb2,
    models_pb2,
    options_pb2,
)
from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_server.app import Server
from mediagate_server.config import Budget
from mediagate_server.observability.metrics import REGISTRY
from mediagate_server.runtime.clock import SystemClock
from tests.builders import audio_request, image_request, stream_text_request
from tests.grpc_errors import metadata_of, reason_of, retry_after, rpc_error, status_of

from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

Estimate = models_pb2.EstimateCostRequest
BOSS = tenant("boss", admin=True)
UNIT = 3_000_000
"""Nano-dollars: what one picture of flux-schnell costs, and the most that it may cost."""


class ClockAhead(SystemClock):
    """The same time of the next day."""

    def now(self) -> datetime:
        return super().now() + timedelta(days=1)


def budget(name: str, units: int, period: str = "month", **more: Any) -> Budget:
    """A budget for so many pictures."""
    usd = Decimal(UNIT * units).scaleb(-9)
    return Budget(name=name, period=period, limit_usd=usd, **more)  # type: ignore[arg-type]


def picture(model: str = "flux-schnell", **labels: str) -> image_pb2.GenerateImageRequest:
    """A request for one picture."""
    return image_request(prompt="x", model=model, labels=labels)


def subject_of(error: grpc.aio.AioRpcError) -> str:
    """Which quota QuotaFailure names."""
    (failure,) = (
        error_details_pb2.QuotaFailure.FromString(detail.value)
        for detail in status_of(error).details
        if detail.Is(error_details_pb2.QuotaFailure.DESCRIPTOR)
    )
    return str(failure.violations[0].subject)


async def stands(server: Server, name: str = "acme") -> admin_pb2.Budget:
    """How the only budget of a tenant stands, as an admin sees it."""
    async with channel_of(server.grpc_address, "boss") as channel:
        answer = await Stubs.on(channel).admin.GetTenant(admin_pb2.GetTenantRequest(id=name))
    (budget,) = answer.tenant.budgets
    return budget


async def gauges(server: Server) -> dict[tuple[str, str, str], float]:
    """How budgets stand, as a scrape sees it, by tenant, budget and amount."""
    url = f"http://{server.operations_address}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        (sample.labels["tenant"], sample.labels["budget"], sample.labels["amount"]): sample.value
        for family in families
        if family.name == "mediagate_budget_usd_nanos"
        for sample in family.samples
    }


def metric(name: str, **labels: str) -> float:
    """A sample of the metrics as they are now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_budget_is_never_exceeded(open_server: OpenServer) -> None:
    """300 calls at once by eight channels: 200 are paid, the others are told by what."""
    sandbox = SandboxSettings(
        port=0, time_scale=0, creates_per_minute=None, requests_per_minute=None
    )
    acme = tenant("acme", budgets=(budget("monthly", 200),), max_in_flight=0)
    async with (
        Sandbox(sandbox) as upstream,
        open_server(upstream.url, tenants=(acme, BOSS), creates_per_minute=1_000_000) as (
            _,
            server,
        ),
    ):
        channels = [channel_of(server.grpc_address, "acme") for _ in range(8)]
        calls = (
            Stubs.on(channels[number % 8]).image.GenerateImage(picture()) for number in range(300)
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        responses = [
            response
            for response in results
            if isinstance(response, image_pb2.GenerateImageResponse)
        ]
        errors = [error for error in results if isinstance(error, grpc.aio.AioRpcError)]
        assert (len(responses), len(errors)) == (200, 100)
        assert {response.generation.cost.usd_nanos for response in responses} == {UNIT}
        for error in errors:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason_of(error) == "BUDGET_EXCEEDED"
            assert subject_of(error) == "budget:monthly"
            assert retry_after(error) is None
        use = await stands(server)
        assert (use.spent_usd_nanos, use.reserved_usd_nanos) == (200 * UNIT, 0)
        assert await gauges(server) == {
            ("acme", "monthly", "limit"): 200 * UNIT,
            ("acme", "monthly", "spent"): 200 * UNIT,
            ("acme", "monthly", "held"): 0,
        }
        for channel in channels:
            await channel.close()
    labels = {"tenant": "acme", "budget": "monthly"}
    assert metric("mediagate_budget_refusals_total", shadow="false", **labels) == 100
    for percent in ("50", "80", "100"):
        assert metric("mediagate_budget_crossings_total", percent=percent, **labels) == 1
    assert b"mgk_acme" not in generate_latest(REGISTRY)


async def test_metrics_show_the_current_state_of_budgets(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """After a restart, an override, a reload that takes one away, and midnight; without a call."""
    daily = tenant("acme", budgets=(budget("daily", 5, "day"), budget("total", 9, "total")))
    total = tenant("acme", budgets=(budget("total", 9, "total"),))
    async with (
        open_server(sandbox.url, tenants=(daily, BOSS)) as (_, server),
        channel_of(server.grpc_address, "acme") as own,
        channel_of(server.grpc_address, "boss") as boss,
    ):
        await Stubs.on(own).image.GenerateImage(picture())
        expires = Timestamp()
        expires.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
        override = admin_pb2.OverrideBudgetRequest(
            tenant="acme", budget="total", limit_usd_nanos=7 * UNIT, expire_time=expires
        )
        await Stubs.on(boss).admin.OverrideBudget(override)
        before = await gauges(server)
    assert before == {
        ("acme", "daily", "limit"): 5 * UNIT,
        ("acme", "daily", "spent"): UNIT,
        ("acme", "daily", "held"): 0,
        ("acme", "total", "limit"): 7 * UNIT,
        ("acme", "total", "spent"): UNIT,
        ("acme", "total", "held"): 0,
    }
    async with open_server(sandbox.url, tenants=(daily, BOSS)) as (_, server):
        assert await gauges(server) == before
    async with open_server(sandbox.url, tenants=(daily, BOSS), clock=ClockAhead()) as (_, server):
        tomorrow = await gauges(server)
        assert tomorrow["acme", "daily", "spent"] == 0
        assert tomorrow["acme", "total", "spent"] == UNIT
    async with open_server(sandbox.url, tenants=(total, BOSS)) as (_, server):
        assert {name for _, name, _ in await gauges(server)} == {"total"}


async def test_a_label_budget_counts_only_its_label(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The others go on; a repeat of what was accepted is no new call."""
    bound = budget("search", 1, "day", label="team=search")
    async with (
        open_server(sandbox.url, tenants=(tenant("acme", budgets=(bound,)), BOSS)) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        stubs = Stubs.on(channel)
        first = picture(team="search")
        first.request_id = "8c5e1c9a-3f1f-4c5b-9a54-2f6d1b0c7a11"
        generation = (await stubs.image.GenerateImage(first)).generation
        error = await rpc_error(stubs.image.GenerateImage(picture(team="search")))
        assert subject_of(error) == "budget:search"
        await stubs.image.GenerateImage(picture(team="other"))
        await stubs.image.GenerateImage(picture())
        again = await stubs.image.GenerateImage(first)
        assert (again.replayed, again.generation.id) == (True, generation.id)


async def test_a_shadow_budget_counts_without_refusing(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """What it would have refused."""
    bound = budget("trial", 1, shadow=True)
    labels = {"tenant": "shady", "budget": "trial", "shadow": "true"}
    async with (
        open_server(sandbox.url, tenants=(tenant("shady", budgets=(bound,)),)) as (_, server),
        channel_of(server.grpc_address, "shady") as channel,
    ):
        for _ in range(3):
            await Stubs.on(channel).image.GenerateImage(picture())
    assert metric("mediagate_budget_refusals_total", **labels) == 2


async def test_an_unknown_price_is_refused_under_a_budget(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Under a budget; without one it runs, and its cost is unknown. Only where none is assumed."""
    tenants = (tenant("acme", budgets=(budget("b", 1000),)), tenant("free"))
    request = audio_request(prompt="rain", model="musicgen")
    async with (
        open_server(sandbox.url, tenants=tenants, allow_assumed_prices=False) as (_, server),
        channel_of(server.grpc_address, "acme") as bounded,
        channel_of(server.grpc_address, "free") as free,
    ):
        generation = (await Stubs.on(free).audio.GenerateAudio(request)).generation
        assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
        assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
        error = await rpc_error(Stubs.on(bounded).audio.GenerateAudio(request))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(error) == "PRICE_UNKNOWN"


async def test_an_assumed_price_is_reserved_and_settled_as_assumed(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """A run is taken to cost so much, in every way that money is bounded; a known price stays."""
    acme = tenant("acme", budgets=(budget("b", 10),))
    request = audio_request(prompt="rain", model="musicgen", max_cost_usd_nanos=4 * UNIT)
    usd = Decimal(4 * UNIT).scaleb(-9)
    async with (
        open_server(sandbox.url, tenants=(acme, BOSS), assume_unknown_usd=usd) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        stubs = Stubs.on(channel)
        for _ in range(2):
            generation = (await stubs.audio.GenerateAudio(request)).generation
            assert (generation.cost.state, generation.cost.usd_nanos) == (
                cost_pb2.COST_STATE_ASSUMED,
                4 * UNIT,
            )
        assert (await stands(server)).spent_usd_nanos == 8 * UNIT
        error = await rpc_error(stubs.audio.GenerateAudio(request))
        assert reason_of(error) == "BUDGET_EXCEEDED"
        request.options.max_cost_usd_nanos = 4 * UNIT - 1
        error = await rpc_error(stubs.audio.GenerateAudio(request))
        assert reason_of(error) == "MAX_COST_EXCEEDED"
        generation = (await stubs.image.GenerateImage(picture())).generation
        assert (generation.cost.state, generation.cost.usd_nanos) == (
            cost_pb2.COST_STATE_SETTLED,
            UNIT,
        )


async def test_validate_only_reports_budget_refusals(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Both kinds of it, by the budget that is in the way; nothing is held, counted or stored."""
    shadow = budget("trial", 0, shadow=True)
    bounds = (budget("all", 3), budget("search", 1, label="team=search"), shadow)
    acme = tenant("acme", budgets=bounds, allow_assumed_prices=False)
    async with (
        open_server(sandbox.url, tenants=(acme, BOSS)) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        stubs = Stubs.on(channel)
        fits, other, large = picture(team="search"), picture(), picture(team="search")
        large.count = 2
        song = audio_request(prompt="rain", model="musicgen")
        plan = (await stubs.models.EstimateCost(Estimate(image=fits))).plan
        assert plan.cost.low_usd_nanos == UNIT
        error = await rpc_error(stubs.models.EstimateCost(Estimate(image=large)))
        assert (reason_of(error), subject_of(error)) == ("BUDGET_EXCEEDED", "budget:search")
        assert metadata_of(error)["asked_usd_nanos"] == str(2 * UNIT)
        error = await rpc_error(stubs.models.EstimateCost(Estimate(audio=song)))
        assert reason_of(error) == "PRICE_UNKNOWN"
        first = picture(team="search")
        first.request_id = "8c5e1c9a-3f1f-4c5b-9a54-2f6d1b0c7a12"
        await stubs.image.GenerateImage(first)
        for dry in (fits, other, first, song):
            dry.validate_only = True
        error = await rpc_error(stubs.image.GenerateImage(fits))
        assert (reason_of(error), subject_of(error)) == ("BUDGET_EXCEEDED", "budget:search")
        assert (await stubs.image.GenerateImage(other)).plan.model
        error = await rpc_error(stubs.audio.GenerateAudio(song))
        assert reason_of(error) == "PRICE_UNKNOWN"
        # A repeat of what is accepted would cost nothing; another request of its name is none.
        assert (await stubs.image.GenerateImage(first)).plan.model
        first.prompt = "another"
        error = await rpc_error(stubs.image.GenerateImage(first))
        assert reason_of(error) == "REQUEST_ID_REUSED"
        listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        assert len(listed.generations) == 1
    assert metric("mediagate_budget_refusals_total", tenant="acme", budget="search") == 0


async def test_validate_only_of_a_reusable_generation(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """It would cost nothing, so no budget is in its way."""
    acme = tenant("acme", budgets=(budget("all", 1),))
    async with (
        open_server(sandbox.url, tenants=(acme, BOSS)) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        image = Stubs.on(channel).image
        await image.GenerateImage(picture())
        dry = picture()
        dry.validate_only = True
        assert reason_of(await rpc_error(image.GenerateImage(dry))) == "BUDGET_EXCEEDED"
        dry.options.reuse_within.seconds = 3_600
        dry.request_id = "8c5e1c9a-3f1f-4c5b-9a54-2f6d1b0c7a13"
        assert (await image.GenerateImage(dry)).plan.model
        dry.validate_only = False
        assert (await image.GenerateImage(dry)).replayed


async def test_a_fallback_must_fit_the_budget(open_server: OpenServer) -> None:
    """Where the next model does not fit any more, the failed run is the end, and is paid."""
    bound = budget("b", 2)
    async with (
        Sandbox(SandboxSettings(port=0)) as upstream,
        open_server(upstream.url, tenants=(tenant("acme", budgets=(bound,)), BOSS)) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        fallback = options_pb2.FallbackPolicy(
            mode=options_pb2.FallbackPolicy.MODE_LIST, models=["flux-pro"]
        )
        request = image_request(prompt="[[fail]] x", model="flux-schnell", fallback=fallback)
        generation = (await Stubs.on(channel).image.GenerateImage(request)).generation
        assert generation.state == generation_pb2.Generation.STATE_FAILED
        assert [attempt.model for attempt in generation.attempts] == [
            "black-forest-labs/flux-schnell"
        ]
        assert generation.error.message
        use = await stands(server)
        assert use.reserved_usd_nanos == 0
        assert use.spent_usd_nanos == generation.cost.usd_nanos


async def test_several_outputs_are_reserved_together(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """A call whose runs do not all fit is refused whole; one that fits is spent by its parts."""
    bound = budget("b", 40, "total")
    async with (
        open_server(sandbox.url, tenants=(tenant("acme", budgets=(bound,)), BOSS)) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        stubs = Stubs.on(channel)
        request = picture("flux-dev")
        request.count = 3
        generation = (await stubs.image.GenerateImage(request)).generation
        use = await stands(server)
        assert (use.spent_usd_nanos, use.reserved_usd_nanos) == (generation.cost.usd_nanos, 0)
        request.count = 4
        error = await rpc_error(stubs.image.GenerateImage(request))
        assert reason_of(error) == "BUDGET_EXCEEDED"
        call: Any = stubs.text.StreamText(stream_text_request(prompt="x"))
        kinds = [event.WhichOneof("event") async for event in call]
        assert kinds[-1] == "completed"
