"""A server records its upstream, and is replayed: callers see the same, and upstream is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import options_pb2, safety_pb2
from mediagate_sandbox.cassettes.server import CassetteServer, recorder, replayer
from mediagate_sandbox.server import Sandbox
from tests.builders import (
    audio_request,
    image_request,
    inline_media_input,
    run_model_request,
    stream_text_request,
    text_request,
    video_request,
)
from tests.sandbox_process import INSTANT
from tests.server_process import free_ports

from .generation_waits import wait_for_end
from .media_transfers import read_output
from .stubs import OpenServer, Stubs

PNG = b"\x89PNG\r\n\x1a\n" + bytes(400_000)
"""Too large for a data URI: it is uploaded."""


@dataclass
class Seen:
    """What callers saw, and the predictions that were made for them."""

    texts: list[str] = field(default_factory=list)
    media: list[bytes] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)
    predictions: set[str] = field(default_factory=set)
    costs: list[int] = field(default_factory=list)


async def call_everything(stubs: Stubs) -> Seen:
    """A call of each kind, at once where their models differ."""
    seen = Seen()
    request = stream_text_request(prompt="[[tokens=20]]")
    events = [each async for each in stubs.text.StreamText(request)]
    seen.texts.append("".join(each.delta.text for each in events))
    answers: list[Any] = [
        await stubs.text.GenerateText(text_request(prompt="a text")),
        await stubs.image.GenerateImage(image_request(prompt="two boats", count=2)),
        await stubs.image.GenerateImage(
            image_request(
                prompt="like it", model="nano-banana", reference_images=[inline_media_input(PNG)]
            )
        ),
        await stubs.audio.GenerateAudio(audio_request(prompt="rain")),
        await stubs.models.RunModel(run_model_request("suno-ai/bark", input={"prompt": "hello"})),
    ]
    video = await stubs.video.GenerateVideo(video_request(prompt="waves"))
    ended = [each.generation for each in answers]
    ended.append(await wait_for_end(stubs, video.generation.id))
    seen.texts.append(ended[0].text.text)
    for generation in ended:
        seen.predictions |= {each.prediction_id for each in generation.attempts}
        seen.costs.append(generation.cost.usd_nanos)
        for index in range(len(generation.images.images) or generation.HasField("video")):
            seen.media.append((await read_output(stubs, generation.id, index))[1])
    verdict = await stubs.safety.CheckSafety(
        safety_pb2.CheckSafetyRequest(content="How do I build a bomb?")
    )
    seen.texts.append(str(verdict.verdict.verdict))
    prompt = "[[fail=flagged as sensitive (E005)]]"
    failed = await stubs.image.GenerateImage(image_request(prompt=prompt))
    seen.errors.append((failed.generation.error.code, failed.generation.error.message))
    return seen


async def cancel_one(stubs: Stubs) -> str:
    """Leave a stream that hangs; what became of it."""
    options = options_pb2.GenerationOptions(disconnect_grace=Duration())
    request = stream_text_request(prompt="[[tokens=9 hang_after=3]]", options=options)
    call = stubs.text.StreamText(request)
    name = ""
    async for event in call:
        name = name or event.started.generation_id
        if event.delta.text:
            break
    call.cancel()
    return str((await wait_for_end(stubs, name)).state)


async def test_a_server_is_recorded_and_replayed(tmp_path: Path, open_server: OpenServer) -> None:
    """With its webhooks, uploads and cancels; not one request goes upstream in the replay."""
    path = tmp_path / "server.jsonl"
    seen: list[tuple[Seen, str]] = []

    async def drive(server: CassetteServer) -> None:
        (port,) = free_ports(1)
        web = {"web_address": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{port}"}
        if seen:  # A server of another day: it knows nothing of the first one's runs.
            (tmp_path / "data").rename(tmp_path / "first")
        async with open_server(server.url, **web) as (stubs, _):
            seen.append((await call_everything(stubs), await cancel_one(stubs)))

    async with Sandbox(INSTANT) as sandbox:
        async with recorder(path, INSTANT, upstream=sandbox.url) as server:
            await drive(server)
        creates = len(sandbox.request_log.creates)
    async with replayer(path, INSTANT) as server:
        await drive(server)
        state = server.state()
    # A server draws seeds, and sends the creates of several outputs at once: either may be first.
    for each, _ in seen:
        each.media.sort()
    assert seen[1] == seen[0]
    assert state["creates_left"] == state["incomplete"] == 0
    assert state["creates"] == creates
