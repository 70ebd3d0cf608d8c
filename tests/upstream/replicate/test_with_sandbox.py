"""The adapter, with the whole chain around it, against the sandbox's real HTTP."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_server.upstream.policies.resilient_upstream import ResilientUpstream
from mediagate_server.upstream.port import (
    CreateRequest,
    DoneEvent,
    NoResponse,
    OutputEvent,
    Prediction,
    PredictionStatus,
    RefusalReason,
    RequestRefused,
)
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.settings import ReplicateSettings, UpstreamLimits
from tests.sse_batches import BatchCollector, collect_batches

TEXT = "meta/meta-llama-3-70b-instruct"
TOKEN = "r8_sandbox"
QUICK = UpstreamLimits(reads_per_minute=600_000)  # tests poll without a pause


def sandbox_settings(cut: int | None = None) -> SandboxSettings:
    return SandboxSettings(
        port=0,
        token=TOKEN,
        token_time_scale=0.01,
        predictions_per_page=2,
        cut_streams_after_bytes=cut,
    )


@pytest.fixture
async def outbound() -> AsyncIterator[ResilientUpstream]:
    async with (
        Sandbox(sandbox_settings()) as sandbox,
        ReplicateClient(ReplicateSettings(base_url=sandbox.base_url, token=TOKEN)) as client,
    ):
        yield ResilientUpstream(client, QUICK)


def text(prompt: str, target: str = TEXT) -> CreateRequest:
    return CreateRequest(target, {"prompt": prompt}, cancel_after=60)


async def read_once(
    out: ResilientUpstream, url: str, last_id: str | None
) -> tuple[list[OutputEvent], bool]:
    """Everything one opening of the stream gives, and whether it came to `done`."""
    async with out.stream(url, last_event_id=last_id) as stream:
        events = (await collect_batches(stream)).events
    outputs = [event for event in events if isinstance(event, OutputEvent)]
    return outputs, DoneEvent() in events


async def ended(out: ResilientUpstream, prediction_id: str) -> Prediction:
    while not (prediction := await out.get(prediction_id)).status.is_terminal:
        pass
    return prediction


async def test_a_streamed_text(outbound: ResilientUpstream) -> None:
    """Created, streamed to done, and told the same by the terminal record, with exact metrics."""
    assert outbound.admission.try_admit("llama-70b")
    created = await outbound.create(text("[[say=a\\u2028b|https:| \\n|é]]"), model="llama-70b")
    assert not created.status.is_terminal
    assert created.stream_url is not None
    outputs, done = await read_once(outbound, created.stream_url, None)
    assert done
    assert [event.text for event in outputs] == ["a\u2028b", "https:", " \n", "é"]
    assert len({event.id for event in outputs}) == 4
    final = await ended(outbound, created.id)
    assert final.status is PredictionStatus.SUCCEEDED
    assert final.output == [event.text for event in outputs]
    assert isinstance((final.metrics or {})["predict_time"], Decimal)
    assert (final.metrics or {})["output_token_count"] == 4


async def test_a_stream_in_cogs_dialect() -> None:
    """The same text and end; a second reading is numbered alike, so that nothing comes twice."""
    settings = replace(sandbox_settings(), stream_dialect="cog")
    async with (
        Sandbox(settings) as sandbox,
        ReplicateClient(ReplicateSettings(base_url=sandbox.base_url, token=TOKEN)) as client,
    ):
        out = ResilientUpstream(client, QUICK)
        created = await out.create(text('[[say=a\\u2028b|{"chunk":1}| \\n|é]]'))
        assert created.stream_url is not None
        outputs, done = await read_once(out, created.stream_url, None)
        assert done
        assert [event.text for event in outputs] == ["a\u2028b", '{"chunk":1}', " \n", "é"]
        again, done = await read_once(out, created.stream_url, outputs[1].id)
        assert (again, done) == (outputs, True)
        failed = await out.create(text("x [[fail=no]] [[fail_after=1]]"))
        assert failed.stream_url is not None
        async with out.stream(failed.stream_url) as stream:
            assert (await collect_batches(stream)).events[-1] == DoneEvent("error")
        picture = await out.create(text("x", target="black-forest-labs/flux-schnell"))
        assert picture.stream_url is not None
        with pytest.raises(RequestRefused):  # 406: it is polled then
            async with out.stream(picture.stream_url):
                pass


async def test_a_broken_stream_resumes_from_its_last_event_id() -> None:
    """Cut once in the middle; the second opening gives the rest and nothing twice."""
    async with (
        Sandbox(sandbox_settings(cut=700)) as sandbox,
        ReplicateClient(ReplicateSettings(base_url=sandbox.base_url, token=TOKEN)) as client,
    ):
        out = ResilientUpstream(client, QUICK)
        created = await out.create(text("[[tokens=60]]"))
        assert created.stream_url is not None
        outputs: list[OutputEvent] = []
        openings, done = 0, False
        while not done:
            openings += 1
            got = BatchCollector()
            try:
                async with out.stream(
                    created.stream_url, last_event_id=outputs[-1].id if outputs else None
                ) as stream:
                    await stream.forward_to(got)
            except NoResponse:
                assert DoneEvent() not in got.events
            outputs += [event for event in got.events if isinstance(event, OutputEvent)]
            done = DoneEvent() in got.events
        assert openings == 2
        assert (await ended(out, created.id)).output == [event.text for event in outputs]


async def test_cancelling_a_prediction(outbound: ResilientUpstream) -> None:
    """A run that would never end is told to; a second cancel finds nothing to do."""
    created = await outbound.create(text("[[hang]]", target="deployments/sandbox/text"))
    while (await outbound.get(created.id)).status is PredictionStatus.STARTING:
        pass
    await outbound.cancel(created.id)
    assert (await ended(outbound, created.id)).status is PredictionStatus.CANCELED
    again = await outbound.cancel(created.id)
    assert again is None or again.status is PredictionStatus.CANCELED


async def test_listing_predictions_page_by_page(outbound: ResilientUpstream) -> None:
    """Newest first, each once, with the filters kept from page to page."""
    started = datetime.now(UTC) - timedelta(seconds=5)
    created = [(await outbound.create(text(f"[[say={n}]]"))).id for n in range(5)]
    listed: list[str] = []
    cursor: str | None = None
    while True:
        page = await outbound.list_predictions(cursor=cursor, created_after=started)
        listed += [prediction.id for prediction in page.predictions]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert listed == created[::-1]
    future = await outbound.list_predictions(created_after=started + timedelta(hours=1))
    assert future.predictions == ()


async def test_refused_requests(outbound: ResilientUpstream) -> None:
    """What is wrong is named: the field, the model, the account."""
    with pytest.raises(RequestRefused) as refused:
        await outbound.create(CreateRequest(TEXT, {"max_tokens": "many"}, cancel_after=60))
    assert refused.value.refusal is RefusalReason.INPUT
    assert set(refused.value.invalid_fields) <= {"prompt", "max_tokens"}
    assert refused.value.invalid_fields
    with pytest.raises(RequestRefused) as refused:
        await outbound.create(text("hi", target="nobody/nothing"))
    assert refused.value.refusal is RefusalReason.NOT_FOUND
    with pytest.raises(RequestRefused) as refused:
        await outbound.get("unknown")
    assert refused.value.refusal is RefusalReason.NOT_FOUND


async def test_a_wrong_token_is_unauthenticated() -> None:
    """The account is refused, and the error shows nothing of the token."""
    async with (
        Sandbox(sandbox_settings()) as sandbox,
        ReplicateClient(ReplicateSettings(base_url=sandbox.url, token="r8_wrong")) as client,
    ):
        with pytest.raises(RequestRefused) as refused:
            await client.create(text("hi"))
    assert refused.value.refusal is RefusalReason.ACCOUNT
    assert "r8_wrong" not in repr(refused.value)
