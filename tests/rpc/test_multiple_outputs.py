"""More images than one run makes: each output has a run of its own, and may be the one missing."""

from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, image_pb2, options_pb2
from mediagate_sandbox.server import Sandbox

from .generation_waits import bill, order
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Options = options_pb2.GenerationOptions
Policy = options_pb2.FallbackPolicy
ALONE = Policy(mode=Policy.MODE_NONE)


async def pictures(stubs: Stubs, count: int, **options: Any) -> generation_pb2.Generation:
    """So many pictures of a model that makes one in a run."""
    answer = await stubs.image.GenerateImage(
        image_pb2.GenerateImageRequest(
            prompt="A cat", count=count, seed=7, options=Options(model="flux-pro", **options)
        )
    )
    return answer.generation


async def test_each_output_is_a_run_and_all_are_paid(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Four pictures, four predictions, the cost of four."""
    async with open_server(sandbox.url) as (stubs, _):
        made = await pictures(stubs, 4)
    billed = await bill(sandbox)
    assert made.state == State.STATE_SUCCEEDED
    assert len(made.images.images) == len({one.sha256 for one in made.images.images}) == 4
    assert sorted(attempt.output_index for attempt in made.attempts) == [0, 1, 2, 3]
    assert [attempt.ordinal for attempt in made.attempts] == [1, 2, 3, 4]
    assert len(billed["entries"]) == 4
    assert made.cost.usd_nanos == billed["total_nanos"]
    assert not made.HasField("partial")


async def test_some_that_fail_leave_a_partial_success(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The missing ones are named with their reasons; the others are where they belong."""
    await order(sandbox, {"do": "fail", "model": "black-forest-labs/*", "every": 2, "error": "E1"})
    async with open_server(sandbox.url) as (stubs, _):
        made = await pictures(stubs, 4, fallback=ALONE)
    missing = {one.index for one in made.partial.missing}
    assert made.state == State.STATE_SUCCEEDED
    assert len(missing) == 2
    assert len(made.images.images) == 4
    for index, image in enumerate(made.images.images):
        assert bool(image.uri or image.sha256) == (index not in missing)
    assert all(one.error.code for one in made.partial.missing)
    assert made.cost.usd_nanos == (await bill(sandbox))["total_nanos"]


async def test_all_that_fail_are_a_failure(sandbox: Sandbox, open_server: OpenServer) -> None:
    """FAILED with the first one's reason."""
    await order(sandbox, {"do": "fail", "model": "black-forest-labs/*", "error": "E1"})
    async with open_server(sandbox.url) as (stubs, _):
        made = await pictures(stubs, 3, fallback=ALONE)
    assert made.state == State.STATE_FAILED
    assert made.error.code
    assert len(made.attempts) == 3
    assert made.cost.usd_nanos == (await bill(sandbox))["total_nanos"]


async def test_each_output_falls_back_alone(sandbox: Sandbox, open_server: OpenServer) -> None:
    """One of three fails: another model makes that one."""
    await order(sandbox, {"do": "fail", "model": "black-forest-labs/*", "times": 1, "error": "E1"})
    async with open_server(sandbox.url) as (stubs, _):
        made = await pictures(stubs, 3)
    assert made.state == State.STATE_SUCCEEDED
    assert len(made.attempts) == 4
    assert all(image.sha256 for image in made.images.images)
    assert made.cost.usd_nanos == (await bill(sandbox))["total_nanos"]


async def test_several_runs_go_on_after_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Some done, some running, some not yet sent when the gate ends: each is paid once."""
    request = image_pb2.GenerateImageRequest(
        prompt="[[run_ms=700]] A cat",
        count=4,
        request_id=str(uuid4()),
        wait=Duration(),
        options=Options(model="flux-pro"),
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
        made = (await stubs.image.GenerateImage(request)).generation
    billed = await bill(sandbox)
    assert made.state == State.STATE_SUCCEEDED
    assert all(image.sha256 for image in made.images.images)
    assert len(billed["entries"]) == 4
    assert made.cost.usd_nanos == billed["total_nanos"]


async def test_cancelling_ends_all_of_them(sandbox: Sandbox, open_server: OpenServer) -> None:
    """CANCELLED, each settled on its terminal record."""
    async with open_server(sandbox.url) as (stubs, _):
        begun = await stubs.image.GenerateImage(
            image_pb2.GenerateImageRequest(
                prompt="[[hang]]", count=3, wait=Duration(), options=Options(model="flux-pro")
            )
        )
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=begun.generation.id)
        )
        done = await stubs.generations.WaitGeneration(
            generations_pb2.WaitGenerationRequest(id=begun.generation.id)
        )
    assert done.generation.state == State.STATE_CANCELLED
    assert done.generation.cost.usd_nanos == (await bill(sandbox))["total_nanos"]
