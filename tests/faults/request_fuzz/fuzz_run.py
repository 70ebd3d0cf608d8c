"""Sends the calls of a seed to a server, some at a time, beside a tenant that works as usual."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from mediagate.v1 import text_pb2_grpc, usage_pb2, usage_pb2_grpc
from mediagate.v1.generation_pb2 import Generation
from tests.builders import text_request
from tests.grpc_errors import LOST_STATUS
from tests.rpc.tenant_keys import tenant_key, tenant_metadata

from .random_requests import KnownIds, Sent, random_call

FUZZ, BOSS, VICTIM = "fuzz", "boss", "victim"
"""Who sends what is random, who does it with an admin's key, and whom nothing of it may touch."""
TENANTS: Final = f"""
[tenants.{FUZZ}]
keys = ["env:FUZZ_KEY"]
store_inputs = "full"
[tenants.{FUZZ}.budgets.all]
period = "total"
limit_usd = "1000000"
shadow = true
[tenants.{FUZZ}.budgets.team]
period = "day"
limit_usd = "1"
label = "team=a"
[tenants.{BOSS}]
keys = ["env:BOSS_KEY"]
admin = true
[tenants.{VICTIM}]
keys = ["env:VICTIM_KEY"]
"""
KEYS: Final = {
    "FUZZ_KEY": tenant_key(FUZZ),
    "BOSS_KEY": tenant_key(BOSS),
    "VICTIM_KEY": tenant_key(VICTIM),
}
FORGED: Final = (
    "",
    "Bearer",
    "Bearer ",
    "Bearer x",
    f"Bearer {tenant_key(VICTIM)[:-1]}e",
    f"bearer  {tenant_key('nobody')}",
    f"Basic {tenant_key(VICTIM)}",
    "Bearer " + "x" * 900,
    f"Bearer {tenant_key(VICTIM)} {tenant_key(VICTIM)}",
)
AT_ONCE: Final = 16
EVERY: Final = 25
"""So many of the calls there are for one of the victim's."""
SECONDS: Final = 60.0
"""After which a call counts as one that hangs."""
WATCHED: Final = 0.2
"""Seconds that the watch of everything, which has no end, is watched for."""


@dataclass
class FuzzOutcome:
    """What came of all calls: by rpc and code, and everything that must not be."""

    codes: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    victims: int = 0
    cost: int = 0


async def send_all(address: str, seed: int, count: int) -> FuzzOutcome:
    """Send so many calls; half of those to AdminService with an admin's key."""
    outcome, ids, numbers = FuzzOutcome(), KnownIds(), iter(range(count))
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    async with grpc.aio.insecure_channel(address, options) as channel:

        async def work() -> None:
            for number in numbers:
                sent = random_call(seed, number, ids, FORGED)
                await _send(channel, sent, ids, outcome)
                if number % EVERY == 0:
                    await victim_call(channel, outcome)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
        await check_victim(channel, outcome)
    return outcome


async def victim_call(channel: grpc.aio.Channel, outcome: FuzzOutcome) -> None:
    """One plain call of another tenant's: it succeeds, and costs what it costs."""
    request = text_request(prompt="How far is the moon?")
    request.options.model = "meta/meta-llama-3-70b-instruct"
    stub: Any = text_pb2_grpc.TextServiceStub(channel)
    try:
        answer = await stub.GenerateText(request, metadata=tenant_metadata(VICTIM), timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        outcome.wrong.append(f"the victim's call: {error.code()} {error.details()}")
        return
    outcome.victims += 1
    outcome.cost += answer.generation.cost.usd_nanos
    if answer.generation.text.text != "Hello":
        outcome.wrong.append(f"the victim's answer: {answer}")


async def check_victim(channel: grpc.aio.Channel, outcome: FuzzOutcome) -> None:
    """Its bill is the sum of its own calls."""
    stub: Any = usage_pb2_grpc.UsageServiceStub(channel)
    usage = await stub.GetUsage(usage_pb2.GetUsageRequest(), metadata=tenant_metadata(VICTIM))
    settled = sum(total.settled_usd_nanos for total in usage.totals)
    if settled != outcome.cost or not outcome.victims:
        outcome.wrong.append(f"the victim's bill is {settled}, not {outcome.cost}")


async def _send(channel: grpc.aio.Channel, sent: Sent, ids: KnownIds, outcome: FuzzOutcome) -> None:
    outcome.methods[sent.method.name] += 1
    error = await _answered(channel, sent, ids, outcome)
    if error and error.details() == LOST_STATUS:
        error = await _answered(channel, sent, ids, outcome)
    outcome.codes[error.code().name if error else "OK"] += 1
    if error and (problem := _problem(sent, error)):
        outcome.wrong.append(f"{problem}\n{sent}")
    elif error is None and sent.key is not None:
        outcome.wrong.append(f"a key of nobody's was let in\n{sent}")


async def _answered(
    channel: grpc.aio.Channel, sent: Sent, ids: KnownIds, outcome: FuzzOutcome
) -> grpc.aio.AioRpcError | None:
    """Learn from all that a call is answered with; the error that it ended with, if any."""
    try:
        async for response in _responses(channel, sent):
            ids.learn(response)
            if "generation" in response.DESCRIPTOR.fields_by_name and _is_bug(response.generation):
                outcome.wrong.append(f"a generation that a bug has ended\n{sent}")
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def _responses(channel: Any, sent: Sent) -> AsyncIterator[Any]:
    """What the call is answered with."""
    method = sent.method
    path = f"/{method.containing_service.full_name}/{method.name}"
    admin = method.containing_service.name == "AdminService" or sent.number % 9 == 0
    key = tenant_metadata(BOSS if admin else FUZZ)
    if sent.key is not None:
        key = (("authorization", sent.key),) if sent.key else ()
    seconds = WATCHED if method.name == "WatchGenerations" else SECONDS
    read = GetMessageClass(method.output_type).FromString
    if method.client_streaming:
        stream = channel.stream_unary(path, bytes, read)
        yield await stream(iter(sent.messages), metadata=key, timeout=seconds)
    elif method.server_streaming:
        ask = channel.unary_stream(path, bytes, read)
        async for response in ask(sent.messages[0], metadata=key, timeout=seconds):
            yield response
    else:
        ask = channel.unary_unary(path, bytes, read)
        yield await ask(sent.messages[0], metadata=key, timeout=seconds)


def _problem(sent: Sent, error: grpc.aio.AioRpcError) -> str:
    """What is wrong with an error; empty where it is one that a caller can act on."""
    code = error.code()
    if sent.method.name == "WatchGenerations" and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ""
    infos = _error_infos(error)
    if len(infos) != 1 or infos[0].domain != "mediagate" or not infos[0].reason:
        return f"{code} without ErrorInfo: {error.details()}"
    reason = infos[0].reason
    if reason == "INTERNAL" or code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return f"{code} {reason}"
    if reason in ("STORE_UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "SUBMIT_UNCONFIRMED"):
        return f"{code} {reason}: nothing was out of order"
    if sent.key is not None and code is not grpc.StatusCode.UNAUTHENTICATED:
        return f"{code} {reason} for a key of nobody's"
    return ""


def _is_bug(generation: Generation) -> bool:
    """Whether a generation has failed by an error of the server's."""
    return any(info.reason == "INTERNAL" for info in _infos_in(generation.error))


def _error_infos(error: grpc.aio.AioRpcError) -> list[error_details_pb2.ErrorInfo]:
    return [
        info
        for key, value in error.trailing_metadata() or ()
        if key == "grpc-status-details-bin"
        for info in _infos_in(status_pb2.Status.FromString(value))
    ]


def _infos_in(status: status_pb2.Status) -> list[error_details_pb2.ErrorInfo]:
    kind = error_details_pb2.ErrorInfo
    return [
        kind.FromString(detail.value) for detail in status.details if detail.Is(kind.DESCRIPTOR)
    ]
