"""More images than one run makes: each output has a run of its own, and may be the one missing."""

from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request

from .generation_waits import get_bill, inject_faults, wait_for_end
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Options = options_pb2.GenerationOptions
Policy = options_pb2.FallbackPolicy
ALONE = Policy(mode=Policy.MODE_NONE)


async def pictures(stubs: Stubs, count: int, **options: Any) -> generation_pb2.Generation:
    """So many pictures of a model that makes one in a run."""
    answer = await stubs.image.GenerateImage(
        image_request(prompt="A cat", count=count, seed=7, model="flux-pro", **options)
    )
    return answer.generation


async def test_each_output_is_a_run_and_is_charged(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Four pictures, four predictions, the cost of four."""
    async with open_server(sandbox.url) as (stubs, _):
        generation = await pictures(stubs, 4)
    billed = await get_bill(sandbox)
    assert generation.state == State.STATE_SUCCEEDED
    assert (
        len(generation.images.images)
        == len({medium.sha256 for medium in generation.images.images})
        == 4
    )
    assert sorted(attempt.output_index for attempt in generation.attempts) == [0, 1, 2, 3]
    assert [attempt.ordinal for attempt in generation.attempts] == [1, 2, 3, 4]
    assert len(billed["entries"]) == 4
    assert generation.cost.usd_nanos == billed["total_nanos"]
    assert not generation.HasField("partial")


async def test_some_failed_outputs_are_a_partial_success(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The missing ones are named with their reasons; the others are where they belong."""
    await inject_faults(
        sandbox, {"do": "fail", "model": "black-forest-labs/*", "every": 2, "error": "E1"}
    )
    async with open_server(sandbox.url) as (stubs, _):
        generation = await pictures(stubs, 4, fallback=ALONE)
    missing = {output.index for output in generation.partial.missing}
    assert generation.state == State.STATE_SUCCEEDED
    assert len(missing) == 2
    assert len(generation.images.images) == 4
    for index, image in enumerate(generation.images.images):
        assert bool(image.uri or image.sha256) == (index not in missing)
    assert all(output.error.code for output in generation.partial.missing)
    assert generation.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]


async def test_all_failed_outputs_are_a_failure(sandbox: Sandbox, open_server: OpenServer) -> None:
    """FAILED with the first one's reason."""
    await inject_faults(sandbox, {"do": "fail", "model": "black-forest-labs/*", "error": "E1"})
    async with open_server(sandbox.url) as (stubs, _):
        generation = await pictures(stubs, 3, fallback=ALONE)
    assert generation.state == State.STATE_FAILED
    assert generation.error.code
    assert len(generation.attempts) == 3
    assert generation.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]


async def test_each_output_falls_back_alone(sandbox: Sandbox, open_server: OpenServer) -> None:
    """One of three fails: another model makes that one."""
    await inject_faults(
        sandbox, {"do": "fail", "model": "black-forest-labs/*", "times": 1, "error": "E1"}
    )
    async with open_server(sandbox.url) as (stubs, _):
        generation = await pictures(stubs, 3)
    assert generation.state == State.STATE_SUCCEEDED
    assert len(generation.attempts) == 4
    assert all(image.sha256 for image in generation.images.images)
    assert generation.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]


async def test_several_runs_continue_after_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Some done, some running, some not yet sent when the server ends: each is paid once."""
    request = image_request(
        prompt="[[run_ms=700]] A cat",
        count=4,
        request_id=str(uuid4()),
        wait=Duration(),
        model="flux-pro",
    )
    async with open_server(sandbox.url, creates_per_minute=40) as (stubs, _):
        begun = await stubs.image.GenerateImage(request)
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.generation.id)
        )
        async for change in watch:
            if any(attempt.prediction_id for attempt in change.generation.attempts):
                break
    request.ClearField("wait")
    async with open_server(sandbox.url) as (stubs, _):
        generation = (await stubs.image.GenerateImage(request)).generation
    billed = await get_bill(sandbox)
    assert generation.state == State.STATE_SUCCEEDED
    assert all(image.sha256 for image in generation.images.images)
    assert len(billed["entries"]) == 4
    assert generation.cost.usd_nanos == billed["total_nanos"]


async def test_cancelling_ends_all_of_them(sandbox: Sandbox, open_server: OpenServer) -> None:
    """CANCELLED, each settled on its terminal record."""
    async with open_server(sandbox.url) as (stubs, _):
        begun = await stubs.image.GenerateImage(
            image_request(prompt="[[hang]]", count=3, wait=Duration(), model="flux-pro")
        )
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=begun.generation.id)
        )
        generation = await wait_for_end(stubs, begun.generation.id)
    assert generation.state == State.STATE_CANCELLED
    assert generation.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]
