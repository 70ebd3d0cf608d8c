"""Callers of the server: hostile cases, each by its number, and an innocent between them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    audio_pb2,
    cost_pb2,
    generation_pb2,
    generations_pb2,
    medium_pb2,
    models_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
)
from tests.builders import (
    image_request,
    run_model_request,
    stream_model_request,
    stream_text_request,
    text_request,
    video_request,
)
from tests.grpc_errors import reason_of
from tests.rpc.stubs import Stubs

from .accelerated_loop import SPEED

INNOCENT_TEXT, INNOCENT_IMAGE = "llama-70b", "flux-schnell"
PATIENCE: Final = 120.0 * SPEED
"""The loop's seconds after which a call is stuck. Also each call's deadline: the server would
answer before that, and counts it in the loop's seconds.
"""
GENERATION_LIFETIME: Final = 2_000
"""The server's seconds that a hostile generation may take."""
_BUGS: Final = frozenset({"INTERNAL", "NOT_IMPLEMENTED"})


class HostileTenant:
    """Sends cases. `outcomes` counts how they ended, by kind of call.

    `bugs` are those that ended as no case may. `url` is told of every end.
    """

    def __init__(self, stubs: Stubs, seed: int, models: dict[str, list[str]], url: str) -> None:
        self._stubs = stubs
        self._seed = seed
        self._models = models
        self._url = url
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.bugs: list[str] = []

    async def run(self, number: int) -> None:
        """One case, to its end."""
        random = Random(f"{self._seed}:{number}:caller")
        kinds: dict[Callable[[Random, str], Awaitable[Any]], int] = {
            self._text: 20,
            self._stream: 15,
            self._json: 6,
            self._image: 15,
            self._pictures: 4,
            self._video: 8,
            self._cancelled: 6,
            self._audio: 5,
            self._safety: 5,
            self._screened: 4,
            self._raw: 15,
            self._raw_stream: 5,
            self._deployment: 4,
            self._estimate: 3,
            self._file: 1,
        }
        (kind,) = random.choices(list(kinds), list(kinds.values()))
        try:
            async with asyncio.timeout(PATIENCE):
                await kind(random, f"case-{number} ")
        except TimeoutError:
            self.bugs.append(f"case {number} ({kind.__name__}) is stuck")
        except grpc.aio.AioRpcError as error:
            self._check(number, kind.__name__, error)
        else:
            self.outcomes[kind.__name__, "OK"] += 1

    def _check(self, number: int, kind: str, error: grpc.aio.AioRpcError) -> None:
        """No upstream may have a call answered without a reason, or with a bug for one."""
        try:
            reason = reason_of(error)
        except AssertionError:
            reason = f"none, {error.code()}"
        if reason in _BUGS or reason.startswith("none"):
            self.bugs.append(f"case {number} ({kind}): {reason} {error.details()}")
        self.outcomes[kind, reason] += 1

    def _options(self, random: Random, modality: str) -> options_pb2.GenerationOptions:
        return options_pb2.GenerationOptions(
            model=random.choice(self._models[modality]),
            timeout=Duration(seconds=GENERATION_LIFETIME),
            webhook_url=self._url,
        )

    async def _text(self, random: Random, prompt: str) -> None:
        options = self._options(random, "text")
        request = text_request(prompt=prompt, options=options)
        await self._stubs.text.GenerateText(request, timeout=PATIENCE)

    async def _stream(self, random: Random, prompt: str) -> None:
        request = stream_text_request(prompt=prompt, options=self._options(random, "text"))
        async for _ in self._stubs.text.StreamText(request, timeout=PATIENCE):
            pass

    async def _json(self, random: Random, prompt: str) -> None:
        schema = Struct()
        schema.update({"type": "object", "properties": {"a": {"type": "number"}}})
        form = text_pb2.ResponseFormat(
            kind=text_pb2.ResponseFormat.KIND_JSON_SCHEMA, json_schema=schema
        )
        request = text_request(
            prompt=prompt, response_format=form, options=self._options(random, "text")
        )
        await self._stubs.text.GenerateText(request, timeout=PATIENCE)

    async def _image(self, random: Random, prompt: str, **fields: Any) -> None:
        options = self._options(random, "image")
        request = image_request(prompt=prompt, options=options, **fields)
        await self._stubs.image.GenerateImage(request, timeout=PATIENCE)

    async def _pictures(self, random: Random, prompt: str) -> None:
        await self._image(random, prompt, count=random.choice((2, 3, 8)))

    async def _screened(self, random: Random, prompt: str) -> None:
        options = self._options(random, "image")
        options.screen_prompt = True
        request = image_request(prompt=prompt, options=options)
        await self._stubs.image.GenerateImage(request, timeout=PATIENCE)

    async def _video(self, random: Random, prompt: str) -> None:
        options = self._options(random, "video")
        request = video_request(prompt=prompt, options=options)
        response = await self._stubs.video.GenerateVideo(request, timeout=PATIENCE)
        await self._ended(response.generation.id)

    async def _cancelled(self, random: Random, prompt: str) -> None:
        options = self._options(random, "video")
        request = video_request(prompt=prompt, options=options)
        response = await self._stubs.video.GenerateVideo(request, timeout=PATIENCE)
        cancel = generations_pb2.CancelGenerationRequest(id=response.generation.id)
        await self._stubs.generations.CancelGeneration(cancel, timeout=PATIENCE)
        await self._ended(response.generation.id)

    async def _audio(self, random: Random, prompt: str) -> None:
        options = self._options(random, "audio")
        request = audio_pb2.GenerateAudioRequest(options=options)
        if random.random() < 0.5:
            request.text = prompt
        else:
            request.prompt = prompt
        await self._stubs.audio.GenerateAudio(request, timeout=PATIENCE)

    async def _safety(self, random: Random, prompt: str) -> None:
        options = options_pb2.GenerationOptions(
            timeout=Duration(seconds=GENERATION_LIFETIME), webhook_url=self._url
        )
        request = safety_pb2.CheckSafetyRequest(content=prompt, options=options)
        await self._stubs.safety.CheckSafety(request, timeout=PATIENCE)

    async def _raw(self, random: Random, prompt: str) -> None:
        await self._stubs.models.RunModel(self._run(random, prompt, "fuzz/"), timeout=PATIENCE)

    async def _deployment(self, random: Random, prompt: str) -> None:
        request = self._run(random, prompt, "deployments/fuzz/")
        await self._stubs.models.RunModel(request, timeout=PATIENCE)

    async def _raw_stream(self, random: Random, prompt: str) -> None:
        run = self._run(random, prompt, "fuzz/")
        request = stream_model_request(run.model, input=run.input, options=run.options)
        async for _ in self._stubs.models.StreamModel(request, timeout=PATIENCE):
            pass

    async def _estimate(self, random: Random, prompt: str) -> None:
        request = models_pb2.EstimateCostRequest(run=self._run(random, prompt, "fuzz/"))
        await self._stubs.models.EstimateCost(request, timeout=PATIENCE)

    async def _file(self, random: Random, prompt: str) -> None:
        picture = b"\x89PNG\r\n\x1a\n" + prompt.encode() + bytes(300_000)
        medium = medium_pb2.MediaInput(
            inline=medium_pb2.InlineMedia(data=picture, media_type="image/png")
        )
        request = image_request(
            prompt=prompt,
            model="black-forest-labs/flux-dev",
            timeout=Duration(seconds=GENERATION_LIFETIME),
            webhook_url=self._url,
            reference_images=[medium],
        )
        await self._stubs.image.GenerateImage(request, timeout=PATIENCE)

    def _run(self, random: Random, prompt: str, owner: str) -> models_pb2.RunModelRequest:
        given = Struct()
        given.update({"prompt": prompt})
        if random.random() < 0.3:
            given.update({"seed": random.choice((3, 12, 2**40, "x"))})
        return run_model_request(
            f"{owner}{prompt.strip()}",
            input=given,
            timeout=Duration(seconds=GENERATION_LIFETIME),
            webhook_url=self._url,
        )

    async def _ended(self, generation_id: str) -> None:
        await self._stubs.generations.WaitGeneration(
            generations_pb2.WaitGenerationRequest(id=generation_id), timeout=PATIENCE
        )


class InnocentTenant:
    """Works as usual. What it gets is exactly what it is to get, and costs exactly that."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self.calls = 0

    async def run(self, number: int) -> None:
        """One call. An AssertionError, or whatever it failed with."""
        self.calls += 1
        prompt = f"innocent-{number} "
        if number % 16:
            options = options_pb2.GenerationOptions(model=INNOCENT_IMAGE)
            answer: Any = await self._stubs.image.GenerateImage(
                image_request(prompt=prompt, options=options), timeout=PATIENCE
            )
            cost = 3_000_000
        else:
            options = options_pb2.GenerationOptions(model=INNOCENT_TEXT)
            answer = await self._stubs.text.GenerateText(
                text_request(prompt=prompt, options=options), timeout=PATIENCE
            )
            assert answer.generation.text.text == f"told {number}", answer
            cost = number * 650 + 7 * 2750
        generation = answer.generation
        assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED, generation
        assert generation.cost.state == cost_pb2.COST_STATE_SETTLED, generation
        assert generation.cost.usd_nanos == cost, generation
        if number % 7 == 0:
            await self._stubs.generations.ListGenerations(
                generations_pb2.ListGenerationsRequest(page_size=3), timeout=PATIENCE
            )
