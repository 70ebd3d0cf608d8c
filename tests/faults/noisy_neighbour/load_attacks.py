"""Attacks by how much is asked for, how often, and by what is then left lying."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any
from uuid import uuid4

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    models_pb2,
    options_pb2,
    text_pb2,
    usage_pb2,
)
from tests.builders import stream_model_request, stream_text_request

from .attack import Attack, Attacker, attack
from .request_attacks import TEXT, run, text

OVERLOADED = ("OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE")


def stream(prompt: str, **options: Any) -> text_pb2.StreamTextRequest:
    """A streamed text."""
    return stream_text_request(prompt=prompt, model=TEXT, **options)


async def generations(attacker: Attacker, number: int) -> list[str]:
    """Ids of this many generations of its own, that have ended."""
    calls = (
        attacker.answer(attacker.stubs.text.GenerateText(text("[[tokens=1]]")))
        for _ in range(number)
    )
    return [response.generation.id for response in await asyncio.gather(*calls) if response]


@attack("each is answered, or refused as RESOURCE_EXHAUSTED; none is lost", *OVERLOADED)
async def flood_of_unary_calls(attacker: Attacker) -> None:
    request = generations_pb2.ListGenerationsRequest(page_size=1)
    calls = (
        attacker.answer(attacker.stubs.generations.ListGenerations(request)) for _ in range(4_000)
    )
    await asyncio.gather(*calls)


@attack("each is answered, or refused as RESOURCE_EXHAUSTED; none is lost", *OVERLOADED)
async def flood_of_billable_calls(attacker: Attacker) -> None:
    request = run("hostile/plain", prompt="x")
    await attacker.hold_open(4_000, lambda: attacker.stubs.models.RunModel(request))


@attack("each keeps no more than its text; nobody is polled for in silence", *OVERLOADED)
async def streams_that_nobody_reads(attacker: Attacker) -> None:
    request = stream_model_request("hostile/streamed-chunks")
    request.input.update({"prompt": "x"})
    calls = [attacker.stubs.models.StreamModel(request) for _ in range(1_200)]
    await attacker.rest()
    for call in calls:
        call.cancel()


@attack("each cancel ends its own call alone")
async def streams_reset_at_once(attacker: Attacker) -> None:
    async def call() -> None:
        begun = attacker.stubs.text.StreamText(stream("[[tokens=50 interval_ms=20]]"))
        await asyncio.sleep(attacker.random.choice((0, 0, 0.001, 0.01)))
        begun.cancel()

    await attacker.repeat(call, at_once=20)


@attack("expired, each for itself", *OVERLOADED, "DEADLINE_EXCEEDED")
async def deadlines_of_a_millisecond(attacker: Attacker) -> None:
    request = text("[[tokens=5]]")
    await attacker.repeat(
        lambda: attacker.stubs.text.GenerateText(request, timeout=0.001), at_once=20
    )


@attack("one generation, however many ask at once")
async def repeated_request_id(attacker: Attacker) -> None:
    while attacker.seconds_left:
        request = text("[[tokens=2]]")
        request.request_id = str(uuid4())
        calls = (attacker.answer(attacker.stubs.text.GenerateText(request)) for _ in range(100))
        ids = {response.generation.id for response in await asyncio.gather(*calls) if response}
        if len(ids) > 1:
            attacker.saw("several generations of one request_id")


@attack("refused before anything of the account's is taken", "RESOURCE_EXHAUSTED")
async def calls_over_the_budget(attacker: Attacker) -> None:
    request = text("x")
    await attacker.repeat(lambda: attacker.poor.text.GenerateText(request), at_once=16)


@attack("queued in its own turn, behind nobody else's; refused above its own bound", *OVERLOADED)
async def a_queue_full_of_its_own(attacker: Attacker) -> None:
    request = run("hostile/plain", prompt="x")
    request.options.on_disconnect = options_pb2.ON_DISCONNECT_DETACH
    await attacker.hold_open(450, lambda: attacker.stubs.models.RunModel(request))


@attack("each is sent a change once; what it watches is bounded", *OVERLOADED)
async def watching_by_the_hundred(attacker: Attacker) -> None:
    request = generations_pb2.WatchGenerationsRequest()
    calls = [attacker.stubs.generations.WatchGenerations(request) for _ in range(300)]
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(text("[[tokens=1]]")))
    for call in calls:
        call.cancel()


@attack("answered in pages, off everybody's way")
async def lists_over_long_ranges(attacker: Attacker) -> None:
    await generations(attacker, 50)
    usage = usage_pb2.GetUsageRequest(
        group_by=[usage_pb2.USAGE_DIMENSION_MODEL, usage_pb2.USAGE_DIMENSION_DAY],
        filter=usage_pb2.UsageFilter(models=["a/b"] * 50),
    )
    calls = (
        lambda: attacker.stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(
                page_size=1_000, view=generation_pb2.GENERATION_VIEW_FULL
            )
        ),
        lambda: attacker.stubs.usage.GetUsage(usage),
        lambda: attacker.stubs.usage.ListCharges(usage_pb2.ListChargesRequest(page_size=1_000)),
        lambda: attacker.stubs.models.ListModels(models_pb2.ListModelsRequest(page_size=1_000)),
    )
    await attacker.repeat_any(*calls)


@attack("each erased once")
async def a_storm_of_deletes(attacker: Attacker) -> None:
    ids = await generations(attacker, 40) or ["gen_none"]
    await attacker.repeat(
        lambda: attacker.stubs.generations.DeleteGeneration(
            generations_pb2.DeleteGenerationRequest(id=attacker.random.choice(ids))
        ),
        at_once=8,
    )


@attack("each cancelled once; what is asked of upstream is bounded")
async def a_storm_of_cancels(attacker: Attacker) -> None:
    begun = [attacker.stubs.text.StreamText(stream("[[hang_after=1]]")) for _ in range(20)]
    ids = [(await anext(aiter(call))).started.generation_id for call in begun]
    await attacker.repeat(
        lambda: attacker.stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=attacker.random.choice(ids))
        ),
        at_once=8,
    )
    for call in begun:
        call.cancel()


@attack("refused each time, at the cost of a refusal")
async def a_storm_of_retries(attacker: Attacker) -> None:
    bad = text("")
    bad.options.fallback.mode = options_pb2.FallbackPolicy.MODE_LIST
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(bad), at_once=32)


@attack("refused; what is asked of upstream for it is bounded, and so is what is kept")
async def models_that_do_not_exist(attacker: Attacker) -> None:
    numbers = count()
    await attacker.repeat(
        lambda: attacker.stubs.models.RunModel(run(f"nobody/made-up-{next(numbers)}", prompt="x")),
        at_once=32,
    )


@attack("read once each, kept within bounds")
async def many_models_with_wide_schemas(attacker: Attacker) -> None:
    numbers = count()
    await attacker.repeat(
        lambda: attacker.stubs.models.RunModel(run(f"hostile/plain-{next(numbers)}", prompt="x")),
        at_once=16,
    )


@attack("posted to from its own places: nobody else's webhook waits for it")
async def silent_webhook_receivers(attacker: Attacker) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await attacker.rest()
        writer.close()

    server = await asyncio.start_server(silent, "0.0.0.0", 0)  # noqa: S104 - many loopback hosts
    port = server.sockets[0].getsockname()[1]
    hosts = count(2)
    async with server:
        await attacker.repeat(
            lambda: attacker.stubs.text.GenerateText(
                text(
                    "[[tokens=1]]",
                    webhook_url=f"http://127.0.0.{next(hosts) % 250 + 2}:{port}/x",
                )
            ),
            at_once=16,
        )
        server.close()


@attack("detached runs live on, within its own bound", *OVERLOADED, "CANCELLED")
async def callers_that_leave_at_once(attacker: Attacker) -> None:
    async def call() -> None:
        # Few tokens: upstream is one process here, and what it takes to write many is not the
        # server's.
        request = text("[[tokens=2 interval_ms=20]]")
        request.options.on_disconnect = options_pb2.ON_DISCONNECT_DETACH
        begun = attacker.stubs.text.GenerateText(request)
        await asyncio.sleep(0.01)
        begun.cancel()

    await attacker.repeat(call, at_once=10)


@attack("waits for nobody else; ends with its wait", *OVERLOADED, "NOT_FOUND")
async def waiting_for_what_never_ends(attacker: Attacker) -> None:
    begun = attacker.stubs.text.StreamText(stream("[[hang_after=1]]"))
    name = (await anext(aiter(begun))).started.generation_id
    await attacker.hold_open(
        400,
        lambda: attacker.stubs.generations.WaitGeneration(
            generations_pb2.WaitGenerationRequest(id=name)
        ),
    )
    begun.cancel()


ATTACKS: tuple[Attack, ...] = (
    flood_of_unary_calls,
    flood_of_billable_calls,
    streams_that_nobody_reads,
    streams_reset_at_once,
    deadlines_of_a_millisecond,
    repeated_request_id,
    calls_over_the_budget,
    a_queue_full_of_its_own,
    watching_by_the_hundred,
    lists_over_long_ranges,
    a_storm_of_deletes,
    a_storm_of_cancels,
    a_storm_of_retries,
    models_that_do_not_exist,
    many_models_with_wide_schemas,
    silent_webhook_receivers,
    callers_that_leave_at_once,
    waiting_for_what_never_ends,
)
