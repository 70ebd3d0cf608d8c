"""What the gate makes of each thing that can go wrong upstream: told right, lost never, paid once.

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

from mediagate.v1 import generation_pb2, generations_pb2, image_pb2, options_pb2, text_pb2
from mediagate_sandbox.control_client import SandboxControl
from tests.sandbox_process import UNLIMITED, running_sandbox

from .foreign_host import foreign_host
from .grpc_errors import reason_of, retry_after
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
    """A gate and the sandbox behind it."""

    stubs: Stubs
    sandbox: SandboxControl
    before: set[str]

    async def goes_wrong(self, *faults: Fault) -> None:
        """Let these things go wrong from now on."""
        await asyncio.to_thread(self.sandbox.faults, *faults)

    async def fired(self) -> list[str]:
        """What went wrong, in order."""
        return [each["do"] for each in await asyncio.to_thread(self.sandbox.fired)]

    async def paid(self) -> list[Any]:
        """What was accepted on this day, whoever knows of it."""
        bill = await asyncio.to_thread(self.sandbox.bill)
        return [entry for entry in bill["entries"] if entry["id"] not in self.before]

    async def found(self, generation_id: str) -> generation_pb2.Generation:
        """The generation at its end."""
        asked = generations_pb2.WaitGenerationRequest(id=generation_id)
        return (await self.stubs.generations.WaitGeneration(asked)).generation

    async def last(self) -> generation_pb2.Generation:
        """The generation that was made last."""
        listed = await self.stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=1)
        )
        return listed.generations[0]

    async def is_settled(self, made: generation_pb2.Generation) -> None:
        """Exactly one prediction was made for it, and it costs what was billed for that."""
        (entry,) = await self.paid()
        assert made.attempts[-1].prediction_id == entry["id"]
        assert made.cost.usd_nanos == entry["nanos"]


@pytest.fixture(scope="module")
def replicate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxControl]:
    """One sandbox for all days; runs take a hundredth of their time."""
    scales = ("--time-scale", "0.01", "--token-time-scale", "0.02")
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), *scales, *UNLIMITED) as sandbox:
        yield sandbox


@pytest.fixture
async def day(replicate: SandboxControl, open_server: OpenServer) -> AsyncIterator[FaultRun]:
    """A new gate, before anything went wrong."""
    replicate.reset()
    before = {entry["id"] for entry in replicate.bill()["entries"]}
    async with open_server(replicate.url, **QUICK) as (stubs, _):
        yield FaultRun(stubs, replicate, before)


def picture() -> image_pb2.GenerateImageRequest:
    """A request for a picture."""
    return image_pb2.GenerateImageRequest(prompt=unlike("A boat"))


def unlike(prompt: str) -> str:
    """A prompt like no other: this day's gate does not know what those of other days hold."""
    return f"{prompt} {uuid4()}"


async def streamed(day: FaultRun, prompt: str = f"[[tokens={TOKENS}]] Hi") -> tuple[str, Any]:
    """A text as it was streamed, and the last event."""
    call = day.stubs.text.StreamText(text_pb2.StreamTextRequest(prompt=unlike(prompt)))
    events = [event async for event in call]
    return "".join(event.delta.text for event in events), events[-1]


async def _rest(events: AsyncIterator[Any]) -> None:
    """Read to the end."""
    async for _ in events:
        pass


@each_answer
async def test_polls_that_go_wrong_are_sent_again(day: FaultRun, fault: Fault) -> None:
    """The first two answers are no answers; the picture comes all the same."""
    await day.goes_wrong(fault | {"on": "get", "times": 2})
    made = (await day.stubs.image.GenerateImage(picture())).generation
    assert made.state == State.STATE_SUCCEEDED
    assert len(made.images.images) == len(made.attempts) == 1
    assert set(await day.fired()) == {fault["do"]}
    await day.is_settled(made)


@each_answer
async def test_lists_that_go_wrong_are_asked_for_again(day: FaultRun, fault: Fault) -> None:
    """A create in doubt is found although the list of predictions fails as well."""
    lost = {"do": "lose_answer", "on": "create"}
    await day.goes_wrong(lost, fault | {"on": "list", "times": 2})
    text, last = await streamed(day)
    made = await day.found((await day.last()).id)
    assert made.text.text == text
    assert last.completed.usage.output_tokens == TOKENS
    assert len(made.attempts) == 1
    await day.is_settled(made)


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
async def test_streams_that_go_wrong_lose_and_repeat_nothing(
    day: FaultRun, fault: Fault, times: int
) -> None:
    """Once or always: what was streamed is the whole text, and the record agrees."""
    await day.goes_wrong(fault | {"on": "stream", "times": times})
    text, last = await streamed(day)
    made = await day.found((await day.last()).id)
    assert made.text.text == text
    assert last.completed.usage.output_tokens == TOKENS
    assert made.state == State.STATE_SUCCEEDED
    assert fault["do"] in await day.fired()
    await day.is_settled(made)


@pytest.mark.parametrize("name", ["id: 9999999999:1\n", "id: odd\n", ""])
async def test_foreign_words_in_a_stream_never_pass_for_the_text(day: FaultRun, name: str) -> None:
    """They were sent before anyone could know; then the stream says that it is no proof."""
    noise = f"event: output\n{name}data: foreign"
    await day.goes_wrong({"do": "garbage", "on": "stream", "text": noise, "after_bytes": 200})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await streamed(day)
    assert reason_of(caught.value) == "STREAM_INTERRUPTED"
    made = await day.found((await day.last()).id)
    assert made.state == State.STATE_SUCCEEDED
    assert made.usage.output_tokens == TOKENS
    assert "foreign" not in made.text.text
    await day.is_settled(made)


@pytest.mark.parametrize("hint", [{}, {"retry_after": 1}], ids=["told in words", "told"])
async def test_a_throttled_create_is_a_refused_attempt(day: FaultRun, hint: Fault) -> None:
    """It cost nothing, and another attempt is made when upstream says."""
    await day.goes_wrong({"do": "throttle", "on": "create", "times": 2} | hint)
    answer = await day.stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt=unlike("Hi")))
    made = answer.generation
    assert [each.state for each in made.attempts] == [
        Tried.STATE_REFUSED,
        Tried.STATE_REFUSED,
        Tried.STATE_SUCCEEDED,
    ]
    assert [each.cost.usd_nanos for each in made.attempts[:2]] == [0, 0]
    await day.is_settled(made)


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
async def test_a_definite_no_is_told_as_what_it_is(
    day: FaultRun, fault: Fault, code: grpc.StatusCode, reason: str
) -> None:
    """The right status and reason, one attempt, no cost, nothing on the bill."""
    await day.goes_wrong(fault)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await day.stubs.image.GenerateImage(picture())
    assert (caught.value.code(), reason_of(caught.value)) == (code, reason)
    assert (retry_after(caught.value) is not None) == (code is Code.UNAVAILABLE)
    made = await day.last()
    assert [each.state for each in made.attempts] == [Tried.STATE_REFUSED]
    assert made.cost.usd_nanos == 0
    assert await day.paid() == []


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
async def test_a_run_that_ends_badly_is_settled(
    day: FaultRun, fault: Fault, state: int, tried: int
) -> None:
    """How it ended, what was written by then, and what upstream bills for that."""
    await day.goes_wrong(fault)
    answer = await day.stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt=unlike("Hi")))
    made = answer.generation
    assert made.state == state
    assert [each.state for each in made.attempts] == [tried]
    assert len(made.text.text.split()) <= fault.get("tokens", 0)
    await day.is_settled(made)


async def test_a_picture_that_is_not_there_is_a_failure(day: FaultRun) -> None:
    """Succeeded upstream, with nothing to show: FAILED here, and settled by what was metered."""
    await day.goes_wrong({"do": "empty_output"})
    made = (await day.stubs.image.GenerateImage(picture())).generation
    assert made.state == State.STATE_FAILED
    await day.is_settled(made)


@each_answer
async def test_cancels_that_go_wrong_are_sent_again(day: FaultRun, fault: Fault) -> None:
    """The run is stopped all the same, and what ran is paid."""
    await day.goes_wrong(fault | {"on": "cancel", "times": 1})
    request = text_pb2.StreamTextRequest(prompt=unlike("[[hang_after=3]] Hi"))
    events = aiter(day.stubs.text.StreamText(request))
    generation = (await anext(events)).started.generation_id
    while not (await anext(events)).delta.text:
        pass
    await day.stubs.generations.CancelGeneration(
        generations_pb2.CancelGenerationRequest(id=generation)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _rest(events)
    assert caught.value.code() is Code.CANCELLED
    made = await day.found(generation)
    assert made.state == State.STATE_CANCELLED
    assert await day.fired() == [fault["do"]]
    await day.is_settled(made)


@pytest.mark.parametrize("status", [302, 307])
async def test_redirects_lead_nowhere(day: FaultRun, status: int) -> None:
    """Whatever upstream says, no request and no token goes to another host."""
    async with foreign_host() as (url, called):
        wrong = {"do": "redirect", "location": url, "status": status, "times": 1}
        await day.goes_wrong(*(wrong | {"on": on} for on in ("create", "get", "stream", "list")))
        text, _ = await streamed(day)
        made = await day.found((await day.last()).id)
        assert called == []
    assert made.text.text == text
    assert {"redirect"} == set(await day.fired())
    await day.is_settled(made)


@pytest.mark.parametrize(
    "fault",
    [each for each in ANSWERS if each["do"] not in {"hang", "redirect", "garbage"}],
    ids=named,
)
async def test_downloads_that_go_wrong_are_begun_again(day: FaultRun, fault: Fault) -> None:
    """The first try brings nothing, or half; the picture is kept whole all the same."""
    await day.goes_wrong(fault | {"on": "output", "times": 1})
    made = (await day.stubs.image.GenerateImage(picture())).generation
    assert made.state == State.STATE_SUCCEEDED
    (kept,) = made.images.images
    assert len(kept.sha256) == 64
    assert kept.size_bytes > 0
    assert await day.fired() == [fault["do"]]
    await day.is_settled(made)


async def test_outputs_elsewhere_are_not_fetched(day: FaultRun) -> None:
    """A link to another host is not followed, and no token goes there; what ran is settled."""
    async with foreign_host() as (url, called):
        origin = url.rstrip("/").replace("127.0.0.1", "localhost")
        await day.goes_wrong({"do": "foreign_output", "origin": origin})
        made = (await day.stubs.image.GenerateImage(picture())).generation
        assert called == []
    (medium,) = made.images.images
    assert not medium.sha256
    await day.is_settled(made)


async def test_a_day_when_much_goes_wrong_at_once(day: FaultRun, seed: int) -> None:
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

    async def one(number: int) -> generation_pb2.Generation:
        options = options_pb2.GenerationOptions(model="flux-schnell" if number % 2 else "llama-70b")
        prompt = unlike(f"[[tokens={TOKENS}]] number {number}")
        if number % 2:
            image = image_pb2.GenerateImageRequest(prompt=prompt, options=options)
            return (await day.stubs.image.GenerateImage(image)).generation
        text = text_pb2.GenerateTextRequest(prompt=prompt, options=options)
        return (await day.stubs.text.GenerateText(text)).generation

    outcomes = await asyncio.gather(*(one(number) for number in range(50)), return_exceptions=True)
    made = [each for each in outcomes if isinstance(each, generation_pb2.Generation)]
    refused = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert len(made) + len(refused) == 50
    assert {each.code() for each in refused} <= {Code.UNAVAILABLE}
    held = [a.prediction_id for each in made for a in each.attempts if a.prediction_id]
    paid = await day.paid()
    assert sorted(held) == sorted(entry["id"] for entry in paid)
    assert sum(each.cost.usd_nanos for each in made) == sum(entry["nanos"] for entry in paid)
    assert len(await day.fired()) > 10
