"""A data folder that an earlier version left in the midst of its work is gone on with, to the cent.

The folder is as that version's process was killed over it: see `earlier_version/README.md`.
"""

import json
import sqlite3
import tarfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, symbol_database
from pydantic import SecretStr

from mediagate.v1 import (
    admin_pb2,
    generation_pb2,
    generations_pb2,
    image_pb2,
    media_pb2,
    text_pb2,
    usage_pb2,
    webhook_pb2,
)
from mediagate_client import verify_webhook
from mediagate_server.app import Server
from mediagate_server.config import Budget, Configuration, Settings
from mediagate_server.runtime.clock import SystemClock
from tests.rpc.stubs import Stubs
from tests.rpc.tenant_keys import channel_of, tenant

from .earlier_version.remembering_upstream import PNG, TEXT, URL, RememberingUpstream

HERE = Path(__file__).parent / "earlier_version"
BUDGETS = (
    Budget(name="all", period="total", limit_usd=Decimal(1_000)),
    Budget(name="team", period="month", limit_usd=Decimal(1_000), label="team=a"),  # type: ignore[arg-type]
)
QUICKLY_SURE: dict[str, Any] = {
    "sweep_seconds": 0.1,
    "absent_margin": 1.0,
    "upstream_create_timeout": 1.0,
    "upstream_connect_timeout": 0.5,
}
CREATES_AFTERWARDS = {
    "screened": ["black-forest-labs/flux-schnell"],
    "vanished": ["openai/gpt-4.1"],
    "unheard": ["black-forest-labs/flux-schnell"],
    "throttled": ["meta/meta-llama-3-70b-instruct"],
    "waiting": ["black-forest-labs/flux-1.1-pro"],
}
"""Which models are sent to by the server that goes on: what was queued, waited for its screening,
or was proven never to have arrived. Nothing else."""
State = generation_pb2.Generation


class ClockOfThen(SystemClock):
    """Time that goes on a second after the folder was left."""

    def __init__(self, left_at: datetime) -> None:
        self._behind = super().now() - left_at - timedelta(seconds=1)

    def now(self) -> datetime:
        return super().now() - self._behind


@dataclass(frozen=True)
class Reopened:
    """The folder with a server of today over it."""

    story: dict[str, Any]
    clock: ClockOfThen
    upstream: RememberingUpstream
    acme: Stubs
    boss: Stubs

    def request(self, scene: str) -> Any:
        """What was sent for a scene."""
        call = next(call for call in self.story["calls"] if call["scene"] == scene)
        message = symbol_database.Default().GetSymbol(call["type"])()
        return json_format.ParseDict(call["request"], message)

    async def ended(self, scene: str) -> generation_pb2.Generation:
        """The generation of a scene, at its end."""
        call = next(call for call in self.story["calls"] if call["scene"] == scene)
        request = generations_pb2.WaitGenerationRequest(id=call["generation"])
        return (await self.acme.generations.WaitGeneration(request)).generation

    async def all_ended(self) -> dict[str, generation_pb2.Generation]:
        """Of all scenes."""
        return {call["scene"]: await self.ended(call["scene"]) for call in self.story["calls"]}


@pytest.fixture
async def reopened(tmp_path: Path) -> AsyncIterator[Reopened]:
    """A copy of the folder, opened in front of what upstream was when it was left."""
    with tarfile.open(HERE / "data_folder.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    story = json.loads((HERE / "story.json").read_text())
    clock = ClockOfThen(datetime.fromisoformat(story["written_at"]))
    upstream = RememberingUpstream(
        goes_on=True,
        creates=list(story["creates"]),
        predictions=dict(story["predictions"]),
        now=clock.now,
    )
    settings = Settings(
        grpc_address="127.0.0.1:0",
        ops_address="127.0.0.1:0",
        upstream_url=URL,
        data_dir=tmp_path / "data",
        replicate_api_token=SecretStr("r8_test_token"),
        tenants=(
            tenant("acme", store_inputs="full", budgets=BUDGETS),
            tenant("boss", admin=True),
        ),
        webhook_networks=(IPv4Network("127.0.0.0/8"),),
        drain_seconds=1,
        **QUICKLY_SURE,
    )
    async with (
        upstream.serving(),
        Server(Configuration(settings), clock) as server,
        channel_of(server.grpc_address, "acme") as acme,
        channel_of(server.grpc_address, "boss") as boss,
    ):
        yield Reopened(story, clock, upstream, Stubs.on(acme), Stubs.on(boss))


def test_the_data_folder_has_work_in_every_state(tmp_path: Path) -> None:
    """As the process was killed over it; else there would be nothing to go on with."""
    with tarfile.open(HERE / "data_folder.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    with closing(sqlite3.connect(tmp_path / "data" / "mediagate.sqlite3")) as file:
        generations = Counter(state for (state,) in file.execute("SELECT state FROM generations"))
        attempts = Counter(state for (state,) in file.execute("SELECT state FROM attempts"))
        webhooks = Counter(state for (state,) in file.execute("SELECT state FROM callbacks"))
        sealed = [
            file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("pending", "checkpoints", "requests")
        ]
    assert generations == {
        "succeeded": 2,
        "finalizing": 1,
        "starting": 3,
        "running": 1,
        "unconfirmed": 2,
        "submitting": 1,
        "queued": 2,
    }
    assert attempts.keys() == {
        "succeeded",
        "accepted",
        "unconfirmed",
        "submitting",
        "refused",
        "queued",
    }
    assert webhooks == {"waiting": 1, "promised": 1}
    assert all(sealed)


async def test_all_work_is_finished_and_settled(reopened: Reopened) -> None:
    """No create is sent twice, and every prediction is charged once, as upstream bills it."""
    generations = await reopened.all_ended()
    assert {each.state for each in generations.values()} == {State.STATE_SUCCEEDED}
    before = len(reopened.story["creates"])
    sent: dict[str, list[str]] = {}
    for create in reopened.upstream.creates[before:]:
        sent.setdefault(create["scene"], []).append(create["model"])
    assert sent == CREATES_AFTERWARDS
    bill = reopened.upstream.bill()
    of_attempts = {
        attempt.prediction_id: attempt.cost.usd_nanos
        for generation in generations.values()
        for attempt in generation.attempts
        if attempt.prediction_id
    }
    assert of_attempts == bill
    charges = await reopened.acme.usage.ListCharges(usage_pb2.ListChargesRequest(page_size=100))
    assert sorted((each.prediction_id, each.cost.usd_nanos) for each in charges.charges) == sorted(
        bill.items()
    )
    response = await reopened.boss.admin.GetTenant(admin_pb2.GetTenantRequest(id="acme"))
    assert [
        (each.name, each.spent_usd_nanos, each.reserved_usd_nanos)
        for each in response.tenant.budgets
    ] == [("all", sum(bill.values()), 0), ("team", sum(bill.values()), 0)]
    assert not response.tenant.in_flight


async def test_stored_requests_and_outputs_are_readable(reopened: Reopened) -> None:
    """Requests, an upload, outputs and page tokens of then; and what was only now downloaded."""
    generations = await reopened.all_ended()
    for scene in generations:
        request = generations_pb2.GetGenerationRequest(
            id=generations[scene].id, view=generation_pb2.GENERATION_VIEW_FULL
        )
        record = (await reopened.acme.generations.GetGeneration(request)).request
        stored = getattr(record, record.WhichOneof("request") or "")
        assert stored.prompt == f"scene {scene}"
    upload = media_pb2.ReadMediaRequest(upload_id=reopened.story["upload_id"])
    assert await _read(reopened.acme, upload) == PNG
    for scene in ("kept", "finalizing", "running", "several"):
        output = media_pb2.ReadMediaRequest()
        output.output.generation_id = generations[scene].id
        assert await _read(reopened.acme, output) == PNG
    page = await reopened.acme.generations.ListGenerations(
        generations_pb2.ListGenerationsRequest(
            page_size=100, page_token=reopened.story["second_page"]
        )
    )
    listed = {each.id for each in page.generations} | set(reopened.story["on_the_first_page"])
    assert listed == {each.id for each in generations.values()}


async def test_repeated_requests_find_their_generations(reopened: Reopened) -> None:
    """Every request once more, by its own words and id: it is answered, and nothing is sent."""
    generations = await reopened.all_ended()
    before = len(reopened.upstream.creates)
    for scene, generation in generations.items():
        request = reopened.request(scene)
        if isinstance(request, text_pb2.StreamTextRequest):
            events = [event async for event in reopened.acme.text.StreamText(request)]
            assert events[0].started.generation_id == generation.id
            assert "".join(event.delta.text for event in events) == "".join(TEXT)
            continue
        assert isinstance(request, text_pb2.GenerateTextRequest | image_pb2.GenerateImageRequest)
        is_text = isinstance(request, text_pb2.GenerateTextRequest)
        send: Any = (
            reopened.acme.text.GenerateText if is_text else reopened.acme.image.GenerateImage
        )
        answer = await send(request)
        assert answer.replayed
        assert answer.generation.id == generation.id
        request.prompt += " and another word"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await send(request)
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert len(reopened.upstream.creates) == before


async def test_a_text_continues_after_its_checkpoint(reopened: Reopened) -> None:
    """The stream is opened behind the last event that was kept."""
    generation = await reopened.ended("streamed")
    assert generation.text.text == "".join(TEXT)
    assert "1690212292:1" in reopened.upstream.last_event_ids


async def test_webhooks_are_signed_with_the_stored_secret(reopened: Reopened) -> None:
    """One that was being delivered, and one that had been promised."""
    generations = await reopened.all_ended()
    upstream = reopened.upstream
    async with upstream.news:
        await upstream.news.wait_for(lambda: len(upstream.webhooks) >= 2)
    now, secret = reopened.clock.now().timestamp(), reopened.story["webhook_secret"]
    events = [verify_webhook(body, headers, secret, now=now) for headers, body in upstream.webhooks]
    assert {event.type for event in events} == {webhook_pb2.WEBHOOK_EVENT_TYPE_GENERATION_SUCCEEDED}
    assert {event.generation.id for event in events} == {
        generations["settled"].id,
        generations["running"].id,
    }


async def _read(stubs: Stubs, request: media_pb2.ReadMediaRequest) -> bytes:
    return b"".join([each.chunk async for each in stubs.media.ReadMedia(request)])
