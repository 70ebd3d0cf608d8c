"""The ledger beside upstream's list: what is found, what is none, and what a pass makes up for."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import generation_pb2, generations_pb2, usage_pb2
from mediagate_sandbox.clock import SystemClock as SandboxClock
from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_server.runtime.clock import SystemClock
from tests.builders import image_request, video_request
from tests.grpc_errors import reason_of, rpc_error

from .fake_clocks import SteppedClock
from .generation_waits import inject_faults
from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

OFTEN = {"reconcile_seconds": 0.1}
Kind = usage_pb2.Discrepancy.Kind


async def findings(stubs: Stubs, **fields: Any) -> usage_pb2.GetReconciliationResponse:
    """What was found by now."""
    return await stubs.usage.GetReconciliation(usage_pb2.GetReconciliationRequest(**fields))


async def passes(stubs: Stubs, count: int = 2) -> usage_pb2.GetReconciliationResponse:
    """Polls until so many passes have begun and ended (no rpc waits): the first may be older."""
    begun = (await findings(stubs)).last_pass.begin_time.ToNanoseconds()
    while True:
        response = await findings(stubs)
        now = response.last_pass.begin_time.ToNanoseconds()
        if now > begun:
            begun, count = now, count - 1
        if not count:
            return response
        await asyncio.sleep(0.01)


async def settled(stubs: Stubs, count: int) -> usage_pb2.GetReconciliationResponse:
    """Polls until so many charges were compared with the list (no rpc waits for that)."""
    while True:
        response = await findings(stubs)
        counts = response.counts
        if counts.matched + counts.missing + counts.cost_differs >= count:
            return response
        await asyncio.sleep(0.01)


async def picture(stubs: Stubs) -> generation_pb2.Generation:
    """A picture of $0.025."""
    request = image_request(prompt="a boat", model="flux-dev")
    return (await stubs.image.GenerateImage(request)).generation


async def stranger(sandbox: Sandbox) -> str:
    """A prediction of somebody who uses the same token."""
    headers = {"Authorization": "Bearer r8_test_token"}
    async with (
        ClientSession(headers=headers) as session,
        session.post(
            f"{sandbox.base_url}/models/black-forest-labs/flux-schnell/predictions",
            json={"input": {"prompt": "not ours"}},
        ) as answer,
    ):
        return str((await answer.json())["id"])


async def test_matching_charges_are_no_discrepancy(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Each charge is counted once, in however many passes it is seen; also after a restart."""
    async with open_server(sandbox.url, **OFTEN) as (stubs, _):
        for _ in range(3):
            await picture(stubs)
        await settled(stubs, 3)
        response = await passes(stubs, 3)
        assert (response.counts.matched, len(response.discrepancies)) == (3, 0)
        last = response.last_pass
        assert last.complete
        assert last.listed == 3
        assert last.counts.matched == 0
        span = last.begin_time.ToNanoseconds() - last.list_start_time.ToNanoseconds()
        assert span >= 600 * 10**9
    async with open_server(sandbox.url, **OFTEN) as (stubs, _):
        await picture(stubs)
        await settled(stubs, 4)
        response = await passes(stubs)
        assert (response.counts.matched, len(response.discrepancies)) == (4, 0)


async def test_the_reconciliation_interval_spans_restarts(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The next pass is due by the last one, whoever made it: not anew with each process."""
    clock, seldom = SteppedClock(), {"reconcile_seconds": 300.0}
    async with open_server(sandbox.url, clock=clock, **seldom) as (stubs, _):
        await picture(stubs)
        while not (await findings(stubs)).HasField("last_pass"):
            pass
    await clock.step(400)
    async with open_server(sandbox.url, clock=clock, **seldom) as (stubs, _):
        response = await settled(stubs, 1)
        assert (response.counts.matched, len(response.discrepancies)) == (1, 0)


async def test_each_kind_of_discrepancy_has_its_details(
    sandbox: Sandbox, open_server: OpenServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose it was, what was settled, what it comes to now; told once to the log, no prompts."""
    control = SandboxControl(sandbox.url)
    async with open_server(sandbox.url, **OFTEN) as (stubs, _):
        gone, dearer = await picture(stubs), await picture(stubs)
        gone_id, dearer_id = (generation.attempts[0].prediction_id for generation in (gone, dearer))
        await settled(stubs, 2)
        await asyncio.to_thread(control.forget, gone_id)
        await asyncio.to_thread(control.amend, dearer_id, image_output_count=2)
        foreign_id = await stranger(sandbox)
        await passes(stubs)
        response = await passes(stubs)
        by_kind = {case.kind: case for case in response.discrepancies}
        assert len(by_kind) == len(response.discrepancies) == 3

        missing = by_kind[Kind.KIND_MISSING]
        assert (missing.prediction_id, missing.generation_id) == (gone_id, gone.id)
        assert (missing.ledger_usd_nanos, missing.tenant, missing.attempt) == (
            25_000_000,
            "local",
            1,
        )
        assert not missing.HasField("upstream_usd_nanos")
        cost = by_kind[Kind.KIND_COST]
        assert (cost.prediction_id, cost.model) == (dearer_id, "black-forest-labs/flux-dev")
        assert (cost.ledger_usd_nanos, cost.upstream_usd_nanos) == (25_000_000, 50_000_000)
        assert cost.HasField("create_time")
        orphan = by_kind[Kind.KIND_ORPHAN]
        assert (orphan.prediction_id, orphan.generation_id, orphan.tenant) == (foreign_id, "", "")
        assert orphan.model == "black-forest-labs/flux-schnell"

        later = Timestamp()
        later.FromNanoseconds(
            max(discrepancy.find_time.ToNanoseconds() for discrepancy in by_kind.values()) + 1000
        )
        after = await findings(stubs, start_time=later)
        assert (after.counts, len(after.discrepancies)) == (usage_pb2.ReconciliationCounts(), 0)
        newest = await findings(stubs, page_size=1)
        assert (newest.discrepancies[:], newest.counts) == (
            response.discrepancies[:1],
            response.counts,
        )
    output = capsys.readouterr().out
    assert output.count("ledger_discrepancy") == 3
    assert "not ours" not in output
    assert "a boat" not in output


async def test_foreign_predictions_are_expected_on_a_shared_account(
    sandbox: Sandbox, open_server: OpenServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are counted apart, and raise no alarm."""
    async with open_server(sandbox.url, upstream_exclusive=False, **OFTEN) as (stubs, _):
        await picture(stubs)
        theirs = await stranger(sandbox)
        await settled(stubs, 1)
        response = await passes(stubs)
        assert response.counts == usage_pb2.ReconciliationCounts(matched=1, foreign=1)
        (case,) = response.discrepancies
        assert (case.kind, case.prediction_id) == (Kind.KIND_FOREIGN, theirs)
    assert "disagree" not in capsys.readouterr().out


async def test_an_incomplete_list_proves_nothing(sandbox: Sandbox, open_server: OpenServer) -> None:
    """Nothing is missing by it; the next whole pass makes up for it."""
    control = SandboxControl(sandbox.url)
    async with open_server(sandbox.url, **OFTEN) as (stubs, _):
        await passes(stubs, 1)
        broken = {"do": "error", "on": "list", "status": 404, "at": "request"}
        await asyncio.to_thread(control.faults, broken)
        generation = await picture(stubs)
        await asyncio.to_thread(control.forget, generation.attempts[0].prediction_id)
        response = await passes(stubs, 3)
        assert not response.last_pass.complete
        assert (response.counts.missing, response.counts.matched) == (0, 0)
        await asyncio.to_thread(control.faults)
        response = await settled(stubs, 1)
        assert (response.counts.missing, response.counts.matched) == (1, 0)


async def test_an_unconfirmed_create_is_not_an_orphan(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Neither while it is being sent nor while it is in doubt; once adopted, it matches."""
    late = {"do": "delay", "on": "create", "at": "answer", "ms": 700, "times": 1}
    lost = {"do": "lose_answer", "on": "create", "times": 1, "after": 1}
    await inject_faults(sandbox, late, lost)
    async with open_server(sandbox.url, sweep_seconds=1, **OFTEN) as (stubs, _):
        await asyncio.gather(picture(stubs), picture(stubs))
        await settled(stubs, 2)
        response = await passes(stubs)
        assert (response.counts.matched, len(response.discrepancies)) == (2, 0)


class ClockAhead(SystemClock):
    """The server's time: the machine's, and some minutes more."""

    minutes = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=self.minutes)


class SandboxClockAhead(SandboxClock):
    """The sandbox's time, which is the server's."""

    def __init__(self, clock: ClockAhead) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=self._clock.minutes)


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_run_older_than_the_list_is_fetched_by_id(
    open_server: OpenServer, *, is_there: bool
) -> None:
    """It was made before the list begins that is read when it ends."""
    clock = ClockAhead()
    async with (
        Sandbox(SandboxSettings(port=0), clock=SandboxClockAhead(clock)) as sandbox,
        open_server(sandbox.url, clock=clock, **OFTEN) as (stubs, _),
    ):
        await passes(stubs, 1)
        request = video_request(
            prompt="[[hang]] rain", model="minimax-video", timeout=Duration(seconds=7_200)
        )
        film = (await stubs.video.GenerateVideo(request)).generation
        running = generation_pb2.Generation.STATE_RUNNING
        while film.state != running:
            get_request = generations_pb2.GetGenerationRequest(id=film.id)
            film = (await stubs.generations.GetGeneration(get_request)).generation
        clock.minutes = 15
        await passes(stubs)
        assert (await passes(stubs)).last_pass.listed == 0
        control = SandboxControl(sandbox.url)
        broken = {"do": "error", "on": "list", "status": 404, "at": "request"}
        await asyncio.to_thread(control.faults, broken)
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=film.id)
        )
        waiting = generations_pb2.WaitGenerationRequest(id=film.id)
        film = (await stubs.generations.WaitGeneration(waiting)).generation
        assert film.state == generation_pb2.Generation.STATE_CANCELLED
        if not is_there:
            await asyncio.to_thread(control.forget, film.attempts[0].prediction_id)
        await asyncio.to_thread(control.faults)
        await settled(stubs, 1)
        counts = (await passes(stubs)).counts
        assert (counts.matched, counts.missing) == (int(is_there), int(not is_there))


async def test_an_embedded_sandbox_starts_empty(open_server: OpenServer) -> None:
    """What it has made is gone with it, and nobody is alarmed."""
    for count in (1, 2):
        async with open_server("", upstream="sandbox", **OFTEN) as (stubs, _):
            await picture(stubs)
            response = await settled(stubs, count)
            response = await passes(stubs)
            assert (response.counts.matched, len(response.discrepancies)) == (count, 0)


async def test_reconciliation_can_be_disabled(sandbox: Sandbox, open_server: OpenServer) -> None:
    """Then there is no pass, and nobody reads the list."""
    async with open_server(sandbox.url, reconcile_seconds=0) as (stubs, _):
        await picture(stubs)
        response = await findings(stubs)
        assert not response.HasField("last_pass")


async def test_reconciliation_is_for_admins(sandbox: Sandbox, open_server: OpenServer) -> None:
    """It is of all tenants."""
    tenants = (tenant("mine"), tenant("boss", admin=True))
    async with open_server(sandbox.url, tenants=tenants, **OFTEN) as (_, server):
        for name in ("mine", "boss"):
            async with channel_of(server.grpc_address, name) as channel:
                if name == "boss":
                    await passes(Stubs.on(channel), 1)
                    continue
                error = await rpc_error(findings(Stubs.on(channel)))
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                assert reason_of(error) == "SCOPE_MISSING"
