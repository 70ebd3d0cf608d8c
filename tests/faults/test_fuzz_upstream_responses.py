"""Upstream may say anything: a seeded fuzz of its answers against a server that runs.

Bodies, metrics, times, ids, addresses, nesting, events, statuses, headers and types of content, for
every route that is asked. Nothing of it is a bug of the server's, keeps a generation from its end,
or is of any consequence for a tenant who works beside it.

To repeat a run: MEDIAGATE_TEST_SEED=<seed>. One case alone: also MEDIAGATE_FUZZ_CASES=<number>,...
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import json_format
from pydantic import SecretStr

from mediagate.v1 import (
    cost_pb2,
    generation_pb2,
    generations_pb2,
    modality_pb2,
    models_pb2,
    usage_pb2,
    webhook_pb2,
)
from mediagate_server.app import Server
from mediagate_server.config import Configuration, Settings
from mediagate_server.observability import metrics
from tests.rpc.stubs import Stubs
from tests.rpc.tenant_keys import channel_of, tenant
from tests.server_process import free_ports
from tests.webhooks.webhook_receiver import Received, Receiver, receiving

from .response_fuzz.accelerated_loop import FastClock, FastLoop
from .response_fuzz.callers import (
    INNOCENT_IMAGE,
    INNOCENT_TEXT,
    PATIENCE,
    HostileTenant,
    InnocentTenant,
)
from .response_fuzz.fuzzed_upstream import FuzzedUpstream, fuzzed_upstream

AT_ONCE: Final = 64
PER_INNOCENT: Final = 8
"""Hostile cases to a call of the innocent tenant."""
_LOOKS: Final = 90
_PAUSE: Final = 100.0
"""The server's seconds between two looks at a generation that is not at its end."""
_ENDED: Final = (
    generation_pb2.Generation.STATE_SUCCEEDED,
    generation_pb2.Generation.STATE_FAILED,
    generation_pb2.Generation.STATE_CANCELLED,
)
_FINAL_COST_STATES: Final = (
    cost_pb2.COST_STATE_SETTLED,
    cost_pb2.COST_STATE_UNKNOWN,
    cost_pb2.COST_STATE_ASSUMED,
)


def run(folder: Path, seed: int, cases: Sequence[int]) -> None:
    """All the cases, and what is left of them."""
    chosen = os.environ.get("MEDIAGATE_FUZZ_CASES")
    if chosen:
        cases = [int(number) for number in chosen.split(",")]
    print(f"seed {seed}, {len(cases)} cases")
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(_survive(folder, seed, cases))


async def _survive(folder: Path, seed: int, cases: Sequence[int]) -> None:
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    bugs = _bugs()
    async with (
        fuzzed_upstream(seed) as upstream,
        receiving() as receiver,
        _open_server(folder, upstream) as server,
        channel_of(server.grpc_address, "hostile") as hostile_channel,
        channel_of(server.grpc_address, "innocent") as innocent_channel,
    ):
        hostile = Stubs.on(hostile_channel)
        cast = HostileTenant(hostile, seed, await _models(hostile), receiver.url)
        innocent = InnocentTenant(Stubs.on(innocent_channel))
        await _call_all(cast, innocent, cases)
        print(*sorted(cast.outcomes.items()))
        ended = await _all_ended(hostile)
        await _check_lists(hostile)
        await _check_lists(Stubs.on(innocent_channel))
        await _check_webhooks(receiver, ended)
    assert not cast.bugs, "\n".join(cast.bugs)
    assert not broken, broken
    assert _bugs() == bugs


async def _call_all(cast: HostileTenant, innocent: InnocentTenant, cases: Sequence[int]) -> None:
    waiting = iter(cases)

    async def work() -> None:
        for number in waiting:
            await cast.run(number)
            if number % PER_INNOCENT == 0:
                try:
                    await innocent.run(number)
                except (grpc.aio.AioRpcError, AssertionError) as error:
                    cast.bugs.append(f"innocent {number}: {error}")

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(cases))):
            group.create_task(work())


@asynccontextmanager
async def _open_server(folder: Path, upstream: FuzzedUpstream) -> AsyncIterator[Server]:
    (port,) = free_ports(1)
    clock = FastClock()
    upstream.now = clock.now
    settings = Settings(
        grpc_address="127.0.0.1:0",
        ops_address="127.0.0.1:0",
        web_address=f"127.0.0.1:{port}",
        public_url=f"http://127.0.0.1:{port}",
        upstream_url=upstream.url,
        data_dir=folder / "data",
        replicate_api_token=SecretStr("r8_test_token"),
        drain_seconds=20,
        lease_seconds=600,
        use_fallback=False,
        creates_per_minute=10_000_000,
        reads_per_minute=10_000_000,
        # As long as can be set: the machine may be slow, and they are of the fast loop's time.
        upstream_connect_timeout=590,
        upstream_create_timeout=600,
        upstream_read_timeout=600,
        receive_timeout=600,
        text_timeout=7_200,
        image_timeout=7_200,
        sweep_seconds=60,
        absent_margin=1_200,
        reconcile_seconds=600,
        catalog_check_hours=0,
        webhook_networks=("127.0.0.0/8",),  # type: ignore[arg-type]
        tenants=(
            tenant("hostile", max_in_flight=0),
            tenant("innocent", max_in_flight=0),
        ),
    )
    async with Server(Configuration(settings), clock) as server:
        yield server


async def _models(stubs: Stubs) -> dict[str, list[str]]:
    """Slugs by modality, without those that the innocent asks for."""
    predictions: dict[str, list[str]] = {}
    token = ""
    while True:
        page = await stubs.models.ListModels(
            models_pb2.ListModelsRequest(page_size=100, page_token=token)
        )
        for model in page.models:
            usual = model.status == models_pb2.Model.STATUS_LIVE
            if usual and not {INNOCENT_TEXT, INNOCENT_IMAGE} & {model.slug, *model.aliases}:
                word = modality_pb2.Modality.Name(model.modality).removeprefix("MODALITY_").lower()
                predictions.setdefault(word, []).append(model.slug)
        token = page.next_page_token
        if not token:
            return predictions


async def _all_ended(stubs: Stubs) -> list[generation_pb2.Generation]:
    """Every generation of the hostile tenant, at its end and with a cost that is one."""
    generations: list[generation_pb2.Generation] = []
    token = ""
    while True:
        page = await stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=100, page_token=token)
        )
        generations += [await _ended(stubs, generation.id) for generation in page.generations]
        token = page.next_page_token
        if not token:
            break
    for generation in generations:
        words = str(generation)[:2_000]
        assert generation.cost.state in _FINAL_COST_STATES, words
        is_known = generation.cost.state != cost_pb2.COST_STATE_UNKNOWN
        assert generation.cost.HasField("usd_nanos") == is_known, words
        for attempt in generation.attempts:
            assert attempt.cost.state in _FINAL_COST_STATES, words
        json_format.MessageToJson(generation)
    return generations


async def _ended(stubs: Stubs, generation_id: str) -> generation_pb2.Generation:
    """The generation at its end: nobody is kept waiting for it past its timeout, so it is asked."""
    for _ in range(_LOOKS):
        answer = await stubs.generations.WaitGeneration(
            generations_pb2.WaitGenerationRequest(id=generation_id), timeout=PATIENCE
        )
        if answer.generation.state in _ENDED:
            return answer.generation
        await asyncio.sleep(_PAUSE)
    raise AssertionError(f"stuck: {generation_id}")


async def _check_lists(stubs: Stubs) -> None:
    """Lists, sums and charges work, and can be written as JSON, whose bounds are the contract's."""
    token = ""
    while True:
        page = await stubs.usage.ListCharges(
            usage_pb2.ListChargesRequest(page_size=100, page_token=token)
        )
        json_format.MessageToJson(page)
        token = page.next_page_token
        if not token:
            break
    by = [usage_pb2.USAGE_DIMENSION_MODEL, usage_pb2.USAGE_DIMENSION_DAY]
    json_format.MessageToJson(await stubs.usage.GetUsage(usage_pb2.GetUsageRequest()))
    json_format.MessageToJson(await stubs.usage.GetUsage(usage_pb2.GetUsageRequest(group_by=by)))


async def _check_webhooks(receiver: Receiver, ended: Iterable[generation_pb2.Generation]) -> None:
    """Of each end the tenant's webhook was told, in JSON that the contract reads.

    Perhaps more than once: whoever answers late is told again.
    """
    by_id = {generation.id: generation for generation in ended}
    webhooks: dict[str, Received] = {}
    for _ in range(_LOOKS):
        webhooks = {webhook.id: webhook for webhook in receiver.all}
        if len(webhooks) >= len(by_id):
            break
        await asyncio.sleep(_PAUSE)
    events = [
        json_format.Parse(webhook.body, webhook_pb2.WebhookEvent()) for webhook in webhooks.values()
    ]
    ids = sorted(event.generation.id for event in events)
    assert ids == sorted(by_id), [
        by_id[generation_id] for generation_id in by_id if generation_id not in ids
    ][:3]


def _bugs() -> float:
    """How often a bug of the server's has ended some work, so far in this process."""
    return sum(
        sample.value
        for family in metrics.unexpected_errors.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


class _Tracebacks(logging.Handler):
    """Keeps every line with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.lines.append(logging.Formatter().format(record))


def check(folder: Path, seed: int, cases: Sequence[int], capfd: Any) -> None:
    """Run them; nothing of it may have left a trace of a bug in any log."""
    tracebacks = _Tracebacks()
    logging.getLogger().addHandler(tracebacks)
    try:
        run(folder, seed, cases)
    finally:
        logging.getLogger().removeHandler(tracebacks)
        written = capfd.readouterr()
        print(written.out[:1_000], written.out[-1_000:])
    assert not tracebacks.lines, tracebacks.lines[:3]
    for stream in (written.out, written.err):
        for word in ("Traceback", "uncaught_exception"):
            assert word not in stream, stream[stream.index(word) :][:3_000]


@pytest.mark.timeout(300)
def test_five_hundred_random_responses(tmp_path: Path, seed: int, capfd: Any) -> None:
    """The quick form."""
    check(tmp_path, seed, range(500), capfd)


@pytest.mark.faults_full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("begin", range(0, 20_000, 5_000))
def test_twenty_thousand_random_responses(
    tmp_path: Path, seed: int, begin: int, capfd: Any
) -> None:
    """The long form, in four parts, each with a server of its own."""
    check(tmp_path, seed, range(begin, begin + 5_000), capfd)
