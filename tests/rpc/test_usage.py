"""UsageService through the wire: what it adds up is what generations and the bill say."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import cost_pb2, generations_pb2, modality_pb2, options_pb2, usage_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request, text_request, video_request
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import get_bill
from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

BY = {
    name: getattr(usage_pb2, f"USAGE_DIMENSION_{name}")
    for name in ("TENANT", "MODEL", "MODALITY", "LABEL", "DAY", "PRICE")
}

FIRST, LAST = Timestamp(), Timestamp()
FIRST.FromJsonString("0001-01-01T00:00:00Z")
LAST.FromJsonString("9999-12-31T23:59:59.999999999Z")


def options(model: str, **labels: str) -> options_pb2.GenerationOptions:
    """Options with a model and labels."""
    return options_pb2.GenerationOptions(model=model, labels=labels)


async def a_little_of_everything(stubs: Stubs) -> list[Any]:
    """Texts, pictures and a film, of two teams; one of them fails."""
    text = text_request(prompt="hello", options=options("claude", team="a"))
    failing = text_request(prompt="[[fail]] x", options=options("claude"))
    picture = image_request(prompt="a", options=options("flux-dev", team="b"))
    responses: list[Any] = [
        await stubs.text.GenerateText(request) for request in (text, text, failing)
    ]
    pictures: list[Any] = [await stubs.image.GenerateImage(picture) for _ in range(2)]
    film = await stubs.video.GenerateVideo(
        video_request(prompt="rain", options=options("minimax-video", team="b"))
    )
    ended = await stubs.generations.WaitGeneration(
        generations_pb2.WaitGenerationRequest(id=film.generation.id)
    )
    return [response.generation for response in (*responses, *pictures, ended)]


async def usage(stubs: Stubs, *by: str, label: str = "", **filters: Any) -> list[Any]:
    """The totals."""
    request = usage_pb2.GetUsageRequest(
        filter=usage_pb2.UsageFilter(**filters), group_by=[BY[name] for name in by], label_key=label
    )
    return list((await stubs.usage.GetUsage(request)).totals)


async def charges(stubs: Stubs, size: int = 0, **filters: Any) -> list[Any]:
    """All pages of charges."""
    request = usage_pb2.ListChargesRequest(filter=usage_pb2.UsageFilter(**filters), page_size=size)
    charge_list: list[Any] = []
    while True:
        page = await stubs.usage.ListCharges(request)
        charge_list += page.charges
        if not page.next_page_token:
            return charge_list
        request.page_token = page.next_page_token


def stamp(moment: datetime) -> Timestamp:
    """As protobuf."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


async def refusal(stubs: Stubs, **request: Any) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and text of a GetUsage that is refused."""
    error = await rpc_error(stubs.usage.GetUsage(usage_pb2.GetUsageRequest(**request)))
    return error.code(), reason_of(error), error.details() or ""


async def test_totals_charges_generations_and_bill_agree(
    sandbox: Sandbox, sandbox_stubs: Stubs
) -> None:
    """To the nano-dollar, in sum and each by itself."""
    generations = await a_little_of_everything(sandbox_stubs)
    total, *more = await usage(sandbox_stubs)
    assert not more
    listed = await charges(sandbox_stubs, size=2)
    assert total.settled_usd_nanos == sum(charge.cost.usd_nanos for charge in listed)
    assert (
        total.settled_usd_nanos == sum(generation.cost.usd_nanos for generation in generations) > 0
    )
    assert total.settled_usd_nanos == (await get_bill(sandbox))["total_nanos"]
    # The text that failed was tried by other models: one generation, a charge for each attempt.
    assert (total.generations, total.charges, total.unknown_charges) == (6, len(listed), 0)
    assert len(listed) > len(generations)
    attempts = {
        (generation.id, each.ordinal): (generation, each)
        for generation in generations
        for each in generation.attempts
    }
    for charge in listed:
        generation, attempt = attempts.pop((charge.generation_id, charge.attempt))
        assert charge.cost == attempt.cost
        assert charge.model == attempt.model
        assert charge.prediction_id == attempt.prediction_id
        assert charge.settle_time == attempt.complete_time
        assert (charge.tenant, charge.labels) == ("local", generation.labels)
        assert charge.modality == generation.modality
        if len(generation.attempts) == 1:
            assert charge.usage == generation.usage
    assert not attempts
    times = [charge.settle_time.ToNanoseconds() for charge in listed]
    assert times == sorted(times, reverse=True)


async def test_groups_add_up_to_the_total(sandbox_stubs: Stubs) -> None:
    """By each dimension and by three at once; the dearest first."""
    await a_little_of_everything(sandbox_stubs)
    (total,) = await usage(sandbox_stubs)
    for by in (*((name,) for name in BY), ("MODEL", "LABEL", "DAY")):
        totals = await usage(sandbox_stubs, *by, label="team" if "LABEL" in by else "")
        sums = [total.settled_usd_nanos for total in totals]
        assert sum(sums) == total.settled_usd_nanos
        assert sums == sorted(sums, reverse=True)
        assert sum(total.charges for total in totals) == total.charges
        tokens = sum(total.usage.output_tokens for total in totals)
        assert tokens == total.usage.output_tokens > 0
    (day,) = await usage(sandbox_stubs, "DAY")
    assert day.day == datetime.now(UTC).date().isoformat()
    by_team = {
        usage_total.label_value: usage_total
        for usage_total in await usage(sandbox_stubs, "LABEL", label="team")
    }
    assert {team: usage_total.generations for team, usage_total in by_team.items()} == {
        "a": 2,
        "b": 3,
        "": 1,
    }
    kinds = {
        usage_total.modality: usage_total.usage
        for usage_total in await usage(sandbox_stubs, "MODALITY")
    }
    assert kinds[modality_pb2.MODALITY_IMAGE].images == 2
    assert not kinds[modality_pb2.MODALITY_TEXT].HasField("images")
    prices = await usage(sandbox_stubs, "MODEL", "PRICE")
    assert all(price.price_date for price in prices)


async def test_filters_apply_to_totals_and_charges(sandbox_stubs: Stubs) -> None:
    """The same filter chooses the same for totals and for charges."""
    generations = await a_little_of_everything(sandbox_stubs)
    claude = generations[0].model
    now = datetime.now(UTC)
    last = max(generation.attempts[-1].complete_time.ToNanoseconds() for generation in generations)
    film = Timestamp()
    film.FromNanoseconds(last)
    every = sum(len(generation.attempts) for generation in generations)
    cases: tuple[tuple[int, dict[str, Any]], ...] = (
        (3, {"models": [claude]}),
        (5, {"models": [claude, "black-forest-labs/flux-dev"]}),
        (2, {"modality": modality_pb2.MODALITY_IMAGE}),
        (2, {"labels": {"team": "a"}}),
        (2, {"labels": {"team": "a"}, "models": [claude]}),
        (1, {"start_time": film}),
        (every - 1, {"start_time": stamp(now - timedelta(days=300)), "end_time": film}),
        (every, {"start_time": stamp(now - timedelta(days=1)), "tenant": "local"}),
    )
    for number, filters in cases:
        (total,) = await usage(sandbox_stubs, **filters)
        assert total.charges == number, filters
        assert len(await charges(sandbox_stubs, **filters)) == number
    empty: tuple[dict[str, Any], ...] = (
        {"labels": {"team": "c"}},
        {"models": ["claude"]},
        {"tenant": "nobody"},
    )
    for nothing in empty:
        assert await usage(sandbox_stubs, "MODEL", **nothing) == []
        assert await usage(sandbox_stubs, **nothing) == []
        assert await charges(sandbox_stubs, **nothing) == []


async def test_the_extreme_timestamps_are_valid(
    three: dict[str, Stubs], caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever a caller may name a time, both ends of what can be told are."""
    boss, mine = three["boss"], three["mine"]
    everything: dict[str, Any] = {"start_time": FIRST, "end_time": LAST}
    assert len(await charges(mine, **everything)) == 1
    assert await charges(mine, end_time=FIRST) == []
    assert await charges(mine, start_time=LAST) == []
    assert await usage(mine, "MODEL", start_time=LAST) == []
    assert await usage(mine, "MODEL", end_time=LAST) == []
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({"created_after": FIRST, "created_before": LAST}, 1),
        ({"created_before": FIRST}, 0),
        ({"created_after": LAST}, 0),
    )
    for filters, number in cases:
        listed = await mine.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(
                filter=generations_pb2.GenerationFilter(**filters)
            )
        )
        assert len(listed.generations) == number
    for moment in (FIRST, LAST):
        request = usage_pb2.GetReconciliationRequest(start_time=moment)
        assert not (await boss.usage.GetReconciliation(request)).discrepancies
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_unknown_costs_are_counted_and_never_zero(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """An end without a metric: no sum has it, and one number says how many are missing."""
    scripted_upstream.creates = [says({"id": ID, "status": "canceled", "metrics": {}}, 201)]
    request = image_request(prompt="a", options=options("sdxl"))
    generation = (await stubs.image.GenerateImage(request)).generation
    assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
    (total,) = await usage(stubs, "MODEL")
    assert (total.unknown_charges, total.settled_usd_nanos, total.charges) == (1, 0, 1)
    (charge,) = await charges(stubs)
    assert not charge.cost.HasField("usd_nanos")
    assert charge.cost.state == cost_pb2.COST_STATE_UNKNOWN


async def test_usage_survives_a_restart(sandbox: Sandbox, open_server: OpenServer) -> None:
    """It is in the store."""
    async with open_server(sandbox.url) as (stubs, _):
        await a_little_of_everything(stubs)
        before = await usage(stubs, "MODEL", "LABEL", label="team"), await charges(stubs)
    async with open_server(sandbox.url) as (stubs, _):
        after = await usage(stubs, "MODEL", "LABEL", label="team"), await charges(stubs)
        assert before == after


async def test_invalid_requests_are_refused_by_field(sandbox_stubs: Stubs) -> None:
    """Each names what is wrong."""
    now = datetime.now(UTC)
    twice = [BY["MODEL"], BY["MODEL"]]
    cases: list[tuple[str, dict[str, Any]]] = [
        ("group_by[0]", {"group_by": [usage_pb2.USAGE_DIMENSION_UNSPECIFIED]}),
        ("group_by[0]", {"group_by": [77]}),
        ("group_by[1]", {"group_by": twice}),
        ("group_by", {"group_by": list(BY.values())[:4], "label_key": "team"}),
        ("label_key", {"group_by": [BY["LABEL"]]}),
        ("label_key", {"label_key": "team"}),
        ("label_key", {"group_by": [BY["LABEL"]], "label_key": "Team!"}),
        ("filter.end_time", {"filter": {"start_time": stamp(now), "end_time": stamp(now)}}),
        ("filter.start_time", {"filter": {"start_time": stamp(now - timedelta(days=401))}}),
        ("filter.end_time", {"filter": {"end_time": FIRST}}),
        ("filter.start_time", {"filter": {"start_time": FIRST}}),
        ("filter.start_time", {"filter": {"start_time": FIRST, "end_time": LAST}}),
        ("filter.modality", {"filter": {"modality": 99}}),
        ("filter.labels", {"filter": {"labels": {f"k{n}": "v" for n in range(17)}}}),
    ]
    for field, request in cases:
        code, reason, text = await refusal(sandbox_stubs, **request)
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), request
        assert field in text, (field, text)
    for token in ("x", "eyJ", "WyJ4IiwgWzEsIDJdXQ=="):
        error = await rpc_error(
            sandbox_stubs.usage.ListCharges(usage_pb2.ListChargesRequest(page_token=token))
        )
        assert reason_of(error) == "INVALID_REQUEST"


@pytest.fixture
async def three(sandbox: Sandbox, open_server: OpenServer) -> AsyncIterator[dict[str, Stubs]]:
    """Two tenants that have made something each, and an admin."""
    async with AsyncExitStack() as stack:
        tenants = (tenant("mine"), tenant("other"), tenant("boss", admin=True))
        _, server = await stack.enter_async_context(open_server(sandbox.url, tenants=tenants))
        stubs = {
            name: Stubs.on(await stack.enter_async_context(channel_of(server.grpc_address, name)))
            for name in ("mine", "other", "boss")
        }
        for name, model in (("mine", "flux-dev"), ("other", "flux-schnell")):
            await stubs[name].image.GenerateImage(image_request(prompt="a", options=options(model)))
        yield stubs


async def test_a_tenant_sees_only_its_own_usage_and_an_admin_all(three: dict[str, Stubs]) -> None:
    """Whatever the filter says."""
    (own,) = await usage(three["mine"], "TENANT", "MODEL")
    assert (own.tenant, own.model) == ("mine", "black-forest-labs/flux-dev")
    assert [charge.tenant for charge in await charges(three["mine"], tenant="mine")] == ["mine"]
    for tenant_name in ("other", "boss", "*", "nobody"):
        for call in (usage, charges):
            error = await rpc_error(call(three["mine"], tenant=tenant_name))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert reason_of(error) == "SCOPE_MISSING"
    assert await usage(three["boss"]) == []
    everybody = await usage(three["boss"], "TENANT", tenant="*")
    assert [usage_total.tenant for usage_total in everybody] == ["mine", "other"]
    assert {charge.tenant for charge in await charges(three["boss"], tenant="*")} == {
        "mine",
        "other",
    }
    (other,) = await usage(three["boss"], tenant="other")
    assert other.settled_usd_nanos == everybody[1].settled_usd_nanos


async def test_page_tokens_are_scoped_to_a_tenant(three: dict[str, Stubs]) -> None:
    """As with every other list."""
    boss = three["boss"]
    request = usage_pb2.ListChargesRequest(filter=usage_pb2.UsageFilter(tenant="*"), page_size=1)
    request.page_token = (await boss.usage.ListCharges(request)).next_page_token
    assert len((await boss.usage.ListCharges(request)).charges) == 1
    request.filter.tenant = "mine"
    for stubs in (boss, three["mine"]):
        error = await rpc_error(stubs.usage.ListCharges(request))
        assert reason_of(error) == "INVALID_REQUEST"
