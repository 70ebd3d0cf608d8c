"""What the server makes of each thing that can go wrong upstream: told right, lost never, paid
once.

The sandbox is a process of its own, as Replicate is, and its bill says what was paid. Creates whose
answers are lost have a file of their own: test_unconfirmed_creates.py.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import pytest

from mediagate.v1 import generation_pb2, generations_pb2, image_pb2, options_pb2
from mediagate_sandbox.control_client import SandboxControl
from tests.builders import image_request, stream_text_request, text_request
from tests.grpc_errors import reason_of, retry_after, rpc_error
from tests.sandbox_process import UNLIMITED, running_sandbox

from .foreign_host import foreign_host
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
Code = grpc.StatusCode
Fault = dict[str, Any]

QUICK = {
    "sweep_seconds": 0.1,
    "absent_margin": 1.0,
    "upstream_create_timeout": 1.0,
    "upstream_connect_timeout": 0.4,
    "upstream_read_timeout": 0.5,
    # What one model's failure comes to; that another takes over has tests of its own.
    "use_fallback": False,
}
TOKENS = 30
ANSWERS: list[Fault] = [
    {"do": "refuse"},
    {"do": "delay", "ms": 100},
    {"do": "hang"},
    {"do": "throttle", "retry_after": 0},
    {"do": "error", "status": 500},
    {"do": "error", "status": 502},
    {"do": "lose_answer"},
    {"do": "reset_body", "after_bytes": 5},
    {"do": "redirect"},
    {"do": "garbage"},
    {"do": "garbage", "text": "{}"},
]


def named(fault: Fault) -> str:
    """A fault as a test's name."""
    return "-".join(str(value) for value in fault.values())


each_answer = pytest.mark.parametrize("fault", ANSWERS, ids=named)


@dataclass
class FaultRun:
    """A server and the sandbox behind it."""

    stubs: Stubs
    sandbox: SandboxControl
    before: set[str]

    async def goes_wrong(self, *faults: Fault) -> None:
        """Let these things go wrong from now on."""
        await asyncio.to_thread(self.sandbox.faults, *faults)

    async def fired(self) -> list[str]:
        """What went wrong, in order."""
        return [each["do"] for each in await asyncio.to_thread(self.sandbox.fired)]

    async def bill_entries(self) -> list[Any]:
        """What was accepted on this day, whoever knows of it."""
        bill = await asyncio.to_thread(self.sandbox.bill)
        return [entry for entry in bill["entries"] if entry["id"] not in self.before]

    async def wait_for_end(self, generation_id: str) -> generation_pb2.Generation:
        """The generation at its end."""
        request = generations_pb2.WaitGenerationRequest(id=generation_id)
        return (await self.stubs.generations.WaitGeneration(request)).generation

    async def last(self) -> generation_pb2.Generation:
        """The generation that was made last."""
        listed = await self.stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=1)
        )
        return listed.generations[0]

    async def is_settled(self, generation: generation_pb2.Generation) -> None:
        """Exactly one prediction was made for it, and it costs what was billed for that."""
        (entry,) = await self.bill_entries()
        assert generation.attempts[-1].prediction_id == entry["id"]
        assert generation.cost.usd_nanos == entry["nanos"]


@pytest.fixture(scope="module")
def replicate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxControl]:
    """One sandbox for all days; runs take a hundredth of their time."""
    scales = ("--time-scale", "0.01", "--token-time-scale", "0.02")
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), *scales, *UNLIMITED) as sandbox:
        yield sandbox


@pytest.fixture
async def day(replicate: SandboxControl, open_server: OpenServer) -> AsyncIterator[FaultRun]:
    """A new server, before anything went wrong."""
    replicate.reset()
    before = {entry["id"] for entry in replicate.bill()["entries"]}
    async with open_server(replicate.url, **QUICK) as (stubs, _):
        yield FaultRun(stubs, replicate, before)


def picture() -> image_pb2.GenerateImageRequest:
    """A request for a picture."""
    return image_request(prompt=unlike("A boat"))


def unlike(prompt: str) -> str:
    """A prompt like no other: this day's server does not know what those of other days hold."""
    return f"{prompt} {uuid4()}"


async def streamed(day: FaultRun, prompt: str = f"[[tokens={TOKENS}]] Hi") -> tuple[str, Any]:
    """A text as it was streamed, and the last event."""
    call = day.stubs.text.StreamText(stream_text_request(prompt=unlike(prompt)))
    events = [event async for event in call]
    return "".join(event.delta.text for event in events), events[-1]


async def _rest(events: AsyncIterator[Any]) -> None:
    """Read to the end."""
    async for _ in events:
        pass


@each_answer
async def test_failed_polls_are_retried(day: FaultRun, fault: Fault) -> None:
    """The first two answers are no answers; the picture comes all the same."""
    await day.goes_wrong(fault | {"on": "get", "times": 2})
    generation = (await day.stubs.image.GenerateImage(picture())).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert len(generation.images.images) == len(generation.attempts) == 1
    assert set(await day.fired()) == {fault["do"]}
    await day.is_settled(generation)


@each_answer
async def test_failed_lists_are_retried(day: FaultRun, fault: Fault) -> None:
    """A create in doubt is found although the list of predictions fails as well."""
    lost = {"do": "lose_answer", "on": "create"}
    await day.goes_wrong(lost, fault | {"on": "list", "times": 2})
    text, last = await streamed(day)
    generation = await day.wait_for_end((await day.last()).id)
    assert generation.text.text == text
    assert last.completed.usage.output_tokens == TOKENS
    assert len(generation.attempts) == 1
    await day.is_settled(generation)


@pytest.mark.parametrize(
    "fault",
    [
        *(each for each in ANSWERS if each["do"] not in {"lose_answer", "reset_body"}),
        {"do": "cut_stream"},
        {"do": "cut_stream", "after_bytes": 300},
        {"do": "cut_stream", "after_bytes": 301, "how": "clean"},
        {"do": "garbage", "after_bytes": 200},
        {"do": "garbage", "after_bytes": 200, "text": "event: surprise\nid: 9:9\ndata: {}"},
        {"do": "garbage", "after_bytes": 200, "text": "event: output\nretry: x\nid: 1:1"},
    ],
    ids=named,
)
@pytest.mark.parametrize("times", [1, 20])
async def test_faulty_streams_lose_and_repeat_nothing(
    day: FaultRun, fault: Fault, times: int
) -> None:
    """Once or always: what was streamed is the whole text, and the record agrees."""
    await day.goes_wrong(fault | {"on": "stream", "times": times})
    text, last = await streamed(day)
    generation = await day.wait_for_end((await day.last()).id)
    assert generation.text.text == text
    assert last.completed.usage.output_tokens == TOKENS
    assert generation.state == State.STATE_SUCCEEDED
    assert fault["do"] in await day.fired()
    await day.is_settled(generation)


@pytest.mark.parametrize("name", ["id: 9999999999:1\n", "id: odd\n", ""])
async def test_a_stream_of_another_prediction_is_detected(day: FaultRun, name: str) -> None:
    """They were sent before anyone could know; then the stream says that it is no proof."""
    noise = f"event: output\n{name}data: foreign"
    await day.goes_wrong({"do": "garbage", "on": "stream", "text": noise, "after_bytes": 200})
    error = await rpc_error(streamed(day))
    assert reason_of(error) == "STREAM_INTERRUPTED"
    generation = await day.wait_for_end((await day.last()).id)
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.usage.output_tokens == TOKENS
    assert "foreign" not in generation.text.text
    await day.is_settled(generation)


@pytest.mark.parametrize("hint", [{}, {"retry_after": 1}], ids=["told in words", "told"])
async def test_a_throttled_create_is_a_refused_attempt(day: FaultRun, hint: Fault) -> None:
    """It cost nothing, and another attempt is made when upstream says."""
    await day.goes_wrong({"do": "throttle", "on": "create", "times": 2} | hint)
    answer = await day.stubs.text.GenerateText(text_request(prompt=unlike("Hi")))
    generation = answer.generation
    assert [each.state for each in generation.attempts] == [
        Tried.STATE_REFUSED,
        Tried.STATE_REFUSED,
        Tried.STATE_SUCCEEDED,
    ]
    assert [each.cost.usd_nanos for each in generation.attempts[:2]] == [0, 0]
    await day.is_settled(generation)


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ({"do": "error", "on": "create", "status": 401}, Code.UNAVAILABLE, "UPSTREAM_ACCOUNT"),
        ({"do": "error", "on": "create", "status": 402}, Code.UNAVAILABLE, "UPSTREAM_ACCOUNT"),
        ({"do": "error", "on": "create", "status": 403}, Code.UNAVAILABLE, "UPSTREAM_ACCOUNT"),
        ({"do": "error", "on": "create", "status": 422}, Code.INVALID_ARGUMENT, "INPUT_REJECTED"),
        ({"do": "change_schema", "require": ["style"]}, Code.INVALID_ARGUMENT, "INPUT_REJECTED"),
        ({"do": "retire_model"}, Code.FAILED_PRECONDITION, "MODEL_RETIRED"),
    ],
    ids=lambda value: named(value) if isinstance(value, dict) else None,
)
async def test_definite_refusals_have_their_status_and_reason(
    day: FaultRun, fault: Fault, code: grpc.StatusCode, reason: str
) -> None:
    """The right status and reason, one attempt, no cost, nothing on the bill."""
    await day.goes_wrong(fault)
    error = await rpc_error(day.stubs.image.GenerateImage(picture()))
    assert (error.code(), reason_of(error)) == (code, reason)
    assert (retry_after(error) is not None) == (code is Code.UNAVAILABLE)
    generation = await day.last()
    assert [each.state for each in generation.attempts] == [Tried.STATE_REFUSED]
    assert generation.cost.usd_nanos == 0
    assert await day.bill_entries() == []


@pytest.mark.parametrize(
    ("fault", "state", "tried"),
    [
        ({"do": "fail", "error": "E1001"}, State.STATE_FAILED, Tried.STATE_FAILED),
        ({"do": "fail", "error": None}, State.STATE_FAILED, Tried.STATE_FAILED),
        ({"do": "fail", "tokens": 5}, State.STATE_FAILED, Tried.STATE_FAILED),
        ({"do": "abort"}, State.STATE_CANCELLED, Tried.STATE_ABORTED),
        ({"do": "empty_output"}, State.STATE_SUCCEEDED, Tried.STATE_SUCCEEDED),
    ],
    ids=lambda value: named(value) if isinstance(value, dict) else None,
)
async def test_failed_runs_are_settled(day: FaultRun, fault: Fault, state: int, tried: int) -> None:
    """How it ended, what was written by then, and what upstream bills for that."""
    await day.goes_wrong(fault)
    answer = await day.stubs.text.GenerateText(text_request(prompt=unlike("Hi")))
    generation = answer.generation
    assert generation.state == state
    assert [each.state for each in generation.attempts] == [tried]
    assert len(generation.text.text.split()) <= fault.get("tokens", 0)
    await day.is_settled(generation)


async def test_a_missing_image_is_a_failure(day: FaultRun) -> None:
    """Succeeded upstream, with nothing to show: FAILED here, and settled by what was metered."""
    await day.goes_wrong({"do": "empty_output"})
    generation = (await day.stubs.image.GenerateImage(picture())).generation
    assert generation.state == State.STATE_FAILED
    await day.is_settled(generation)


@each_answer
async def test_failed_cancels_are_retried(day: FaultRun, fault: Fault) -> None:
    """The run is stopped all the same, and what ran is paid."""
    await day.goes_wrong(fault | {"on": "cancel", "times": 1})
    request = stream_text_request(prompt=unlike("[[hang_after=3]] Hi"))
    events = aiter(day.stubs.text.StreamText(request))
    generation = (await anext(events)).started.generation_id
    while not (await anext(events)).delta.text:
        pass
    await day.stubs.generations.CancelGeneration(
        generations_pb2.CancelGenerationRequest(id=generation)
    )
    error = await rpc_error(_rest(events))
    assert error.code() is Code.CANCELLED
    generation_at_end = await day.wait_for_end(generation)
    assert generation_at_end.state == State.STATE_CANCELLED
    assert await day.fired() == [fault["do"]]
    await day.is_settled(generation_at_end)


@pytest.mark.parametrize("status", [302, 307])
async def test_redirects_are_not_followed(day: FaultRun, status: int) -> None:
    """Whatever upstream says, no request and no token goes to another host."""
    async with foreign_host() as (url, called):
        wrong = {"do": "redirect", "location": url, "status": status, "times": 1}
        await day.goes_wrong(*(wrong | {"on": on} for on in ("create", "get", "stream", "list")))
        text, _ = await streamed(day)
        generation = await day.wait_for_end((await day.last()).id)
        assert called == []
    assert generation.text.text == text
    assert {"redirect"} == set(await day.fired())
    await day.is_settled(generation)


@pytest.mark.parametrize(
    "fault",
    [each for each in ANSWERS if each["do"] not in {"hang", "redirect", "garbage"}],
    ids=named,
)
async def test_failed_downloads_are_retried(day: FaultRun, fault: Fault) -> None:
    """The first try brings nothing, or half; the picture is kept whole all the same."""
    await day.goes_wrong(fault | {"on": "output", "times": 1})
    generation = (await day.stubs.image.GenerateImage(picture())).generation
    assert generation.state == State.STATE_SUCCEEDED
    (medium,) = generation.images.images
    assert len(medium.sha256) == 64
    assert medium.size_bytes > 0
    assert await day.fired() == [fault["do"]]
    await day.is_settled(generation)


async def test_outputs_on_other_hosts_are_not_fetched(day: FaultRun) -> None:
    """A link to another host is not followed, and no token goes there; what ran is settled."""
    async with foreign_host() as (url, called):
        origin = url.rstrip("/").replace("127.0.0.1", "localhost")
        await day.goes_wrong({"do": "foreign_output", "origin": origin})
        generation = (await day.stubs.image.GenerateImage(picture())).generation
        assert called == []
    (medium,) = generation.images.images
    assert not medium.sha256
    await day.is_settled(generation)


async def test_many_faults_at_once(day: FaultRun, seed: int) -> None:
    """Fifty texts and pictures under a seeded plan: each one ends, each prediction is paid once."""
    print(f"fault seed {seed}")
    often = {"probability": 0.15}
    await asyncio.to_thread(
        day.sandbox.faults,
        {"do": "lose_answer", "on": "create"} | often,
        {"do": "error", "on": ["create", "get"], "status": 502} | often,
        {"do": "throttle", "on": "create", "retry_after": 0} | often,
        {"do": "reset_body", "on": ["get", "list"], "after_bytes": 9} | often,
        {"do": "cut_stream", "after_bytes": 300} | often,
        {"do": "fail", "error": "E1", "model": "meta/*", "tokens": 3} | often,
        seed=seed,
    )

    async def generate(number: int) -> generation_pb2.Generation:
        options = options_pb2.GenerationOptions(model="flux-schnell" if number % 2 else "llama-70b")
        prompt = unlike(f"[[tokens={TOKENS}]] number {number}")
        if number % 2:
            image = image_request(prompt=prompt, options=options)
            return (await day.stubs.image.GenerateImage(image)).generation
        text = text_request(prompt=prompt, options=options)
        return (await day.stubs.text.GenerateText(text)).generation

    outcomes = await asyncio.gather(
        *(generate(number) for number in range(50)), return_exceptions=True
    )
    generations = [each for each in outcomes if isinstance(each, generation_pb2.Generation)]
    refused = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert len(generations) + len(refused) == 50
    assert {each.code() for each in refused} <= {Code.UNAVAILABLE}
    prediction_ids = [
        a.prediction_id for each in generations for a in each.attempts if a.prediction_id
    ]
    entries = await day.bill_entries()
    assert sorted(prediction_ids) == sorted(entry["id"] for entry in entries)
    assert sum(each.cost.usd_nanos for each in generations) == sum(
        entry["nanos"] for entry in entries
    )
    assert len(await day.fired()) > 10
