"""AdminService: tenants with limits and spend, and budgets that are other ones for a while."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import admin_pb2
from mediagate_sandbox.server import Sandbox
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant
from .test_budgets import BOSS, UNIT, budget, picture

Period = admin_pb2.Budget


async def test_tenants_with_limits_and_spend(sandbox: Sandbox, open_server: OpenServer) -> None:
    """What is configured, and what came of it."""
    budgets = (budget("b", 10, "month"), budget("team", 5, "day", label="team=a", shadow=True))
    acme = tenant("acme", requests_per_minute=100, max_in_flight=0, budgets=budgets)
    async with (
        open_server(sandbox.url, tenants=(BOSS, acme), max_in_flight=7) as (_, server),
        channel_of(server.grpc_address, "acme") as own,
        channel_of(server.grpc_address, "boss") as boss,
    ):
        await Stubs.on(own).image.GenerateImage(picture(team="a"))
        await Stubs.on(own).image.GenerateImage(picture())
        admin = Stubs.on(boss).admin
        response = (await admin.GetTenant(admin_pb2.GetTenantRequest(id="acme"))).tenant
        assert (response.id, response.requests_per_minute, response.in_flight) == ("acme", 100, 0)
        assert not response.HasField("max_in_flight")
        month, team = response.budgets
        assert (month.name, month.period, month.label_key) == ("b", Period.PERIOD_MONTH, "")
        assert (month.limit_usd_nanos, month.spent_usd_nanos) == (10 * UNIT, 2 * UNIT)
        assert (team.period, team.label_key, team.label_value) == (Period.PERIOD_DAY, "team", "a")
        assert (team.spent_usd_nanos, team.reserved_usd_nanos) == (UNIT, 0)
        assert (month.shadow, team.shadow) == (False, True)
        listed = (await admin.ListTenants(admin_pb2.ListTenantsRequest())).tenants
        assert [tenant.id for tenant in listed] == ["acme", "boss"]
        assert listed[0] == response
        assert listed[1].max_in_flight == 7
        assert not listed[1].HasField("requests_per_minute")
        error = await rpc_error(admin.GetTenant(admin_pb2.GetTenantRequest(id="nobody")))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "INVALID_REQUEST")
        assert fields_of(error) == {"id"}


async def test_tenants_are_paged(sandbox: Sandbox, open_server: OpenServer) -> None:
    """By their ids, each once; a token that is none is refused."""
    names = [f"t{number:02}" for number in range(7)]
    tenants = (BOSS, *(tenant(name) for name in reversed(names)))
    async with (
        open_server(sandbox.url, tenants=tenants) as (_, server),
        channel_of(server.grpc_address, "boss") as channel,
    ):
        admin = Stubs.on(channel).admin
        request = admin_pb2.ListTenantsRequest(page_size=3)
        ids: list[str] = []
        while True:
            page = await admin.ListTenants(request)
            assert 0 < len(page.tenants) <= 3
            ids += [tenant.id for tenant in page.tenants]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert ids == ["boss", *names]
        for token in ("x", "W10="):
            bad = admin_pb2.ListTenantsRequest(page_token=token)
            assert fields_of(await rpc_error(admin.ListTenants(bad))) == {"page_token"}


async def test_a_budget_override_applies_until_it_expires(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Raised it lets pass at once, lowered to nothing it lets nothing pass."""
    acme = tenant("acme", budgets=(budget("b", 1),))
    later = Timestamp()
    later.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    request = admin_pb2.OverrideBudgetRequest(
        tenant="acme", budget="b", limit_usd_nanos=2 * UNIT, expire_time=later
    )
    async with (
        open_server(sandbox.url, tenants=(BOSS, acme)) as (_, server),
        channel_of(server.grpc_address, "acme") as own,
        channel_of(server.grpc_address, "boss") as boss,
    ):
        pictures, admin = Stubs.on(own).image, Stubs.on(boss).admin
        await pictures.GenerateImage(picture())
        assert reason_of(await rpc_error(pictures.GenerateImage(picture()))) == "BUDGET_EXCEEDED"
        raised = (await admin.OverrideBudget(request)).budget
        assert (raised.limit_usd_nanos, raised.spent_usd_nanos) == (2 * UNIT, UNIT)
        await pictures.GenerateImage(picture())
        request.expire_time.FromJsonString("9999-12-31T23:59:59.999999999Z")
        request.limit_usd_nanos = 0
        assert (await admin.OverrideBudget(request)).budget.limit_usd_nanos == 0
        assert reason_of(await rpc_error(pictures.GenerateImage(picture()))) == "BUDGET_EXCEEDED"


WRONG: dict[str, tuple[dict[str, Any], grpc.StatusCode, str]] = {
    "no such tenant": ({"tenant": "nobody"}, grpc.StatusCode.NOT_FOUND, "tenant"),
    "no such budget": ({"budget": "nothing"}, grpc.StatusCode.NOT_FOUND, "budget"),
    "no tenant": ({"tenant": ""}, grpc.StatusCode.INVALID_ARGUMENT, "tenant"),
    "no budget": ({"budget": ""}, grpc.StatusCode.INVALID_ARGUMENT, "budget"),
    "less than nothing": (
        {"limit_usd_nanos": -1},
        grpc.StatusCode.INVALID_ARGUMENT,
        "limit_usd_nanos",
    ),
    "no time": ({"expire_time": None}, grpc.StatusCode.INVALID_ARGUMENT, "expire_time"),
    "the first time there is": (
        {"expire_time": Timestamp(seconds=-62_135_596_800)},
        grpc.StatusCode.INVALID_ARGUMENT,
        "expire_time",
    ),
    "a time that is over": (
        {"expire_time": Timestamp(seconds=1)},
        grpc.StatusCode.INVALID_ARGUMENT,
        "expire_time",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_invalid_fields_are_named(
    case: str, sandbox: Sandbox, open_server: OpenServer
) -> None:
    """By the field, and nothing is changed."""
    change, code, field = WRONG[case]
    later = Timestamp()
    later.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    fields = {"tenant": "acme", "budget": "b", "limit_usd_nanos": 5, "expire_time": later}
    request = admin_pb2.OverrideBudgetRequest(**{**fields, **change})
    async with (
        open_server(sandbox.url, tenants=(BOSS, tenant("acme", budgets=(budget("b", 1),)))) as (
            _,
            server,
        ),
        channel_of(server.grpc_address, "boss") as channel,
    ):
        admin = Stubs.on(channel).admin
        error = await rpc_error(admin.OverrideBudget(request))
        assert (error.code(), reason_of(error)) == (code, "INVALID_REQUEST")
        assert fields_of(error) == {field}
        response = (await admin.GetTenant(admin_pb2.GetTenantRequest(id="acme"))).tenant
        assert response.budgets[0].limit_usd_nanos == UNIT


async def test_without_configured_tenants_there_is_a_local_one(sandbox_stubs: Stubs) -> None:
    """The local one, who is nobody's key and everybody."""
    listed = (await sandbox_stubs.admin.ListTenants(admin_pb2.ListTenantsRequest())).tenants
    assert [tenant.id for tenant in listed] == ["local"]
