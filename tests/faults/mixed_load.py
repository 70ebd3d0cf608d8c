"""A mixed load: texts, pictures, films and sounds, that end well, fail and are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    audio_pb2,
    audio_pb2_grpc,
    generation_pb2,
    generations_pb2,
    generations_pb2_grpc,
    image_pb2_grpc,
    medium_pb2,
    options_pb2,
    safety_pb2,
    safety_pb2_grpc,
    text_pb2_grpc,
    video_pb2_grpc,
)
from tests.builders import image_request, stream_text_request, text_request, video_request

AT_ONCE = 40
"""How many calls are under way together."""

TEXTS = (
    "meta/meta-llama-3-70b-instruct",
    "meta/meta-llama-3-8b-instruct",
    "anthropic/claude-4.5-sonnet",
    "anthropic/claude-4.5-haiku",
    "openai/gpt-4o-mini",
    "openai/gpt-5-mini",
)
PICTURES = (
    "black-forest-labs/flux-1.1-pro",
    "black-forest-labs/flux-dev",
    "black-forest-labs/flux-schnell",
    "stability-ai/sdxl",
    "playgroundai/playground-v2.5-1024px-aesthetic",
)
SINGLE_IMAGE_MODEL = "black-forest-labs/flux-1.1-pro"
FILMS = (
    "minimax/video-01",
    "bytedance/seedance-1-pro",
    "google/veo-3-fast",
    "kwaivgi/kling-v2.1",
)
SOUNDS = ("stability-ai/stable-audio-2.5", "minimax/speech-02-turbo", "meta/musicgen")
GUARD = "meta/llama-guard-3-8b"
MODELS = {GUARD, *TEXTS, *PICTURES, *FILMS, *SOUNDS}
FRAME = medium_pb2.MediaInput(uri="https://a.example/x.png")

Way = Callable[[Random], Awaitable[str]]


class MixedLoad:
    """Calls one server. Every way gives the id of the generation that it made.

    What is written into requests comes from `_words` and `_options`, for others to write more.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._texts: Any = text_pb2_grpc.TextServiceStub(channel)
        self._images: Any = image_pb2_grpc.ImageServiceStub(channel)
        self._videos: Any = video_pb2_grpc.VideoServiceStub(channel)
        self._audios: Any = audio_pb2_grpc.AudioServiceStub(channel)
        self._safety: Any = safety_pb2_grpc.SafetyServiceStub(channel)
        self._generations: Any = generations_pb2_grpc.GenerationServiceStub(channel)
        self._ways = self._weights()

    def _weights(self) -> dict[Way, int]:
        """How often each way is gone."""
        return {
            self.text: 30,
            self.stream: 20,
            self.failing_stream: 8,
            self.cancelled_stream: 8,
            self.picture: 14,
            self.failing_picture: 5,
            self.film: 8,
            self.sound: 7,
            self.verdict: 4,
        }

    async def run(self, count: int, seed: int) -> list[generation_pb2.Generation]:
        """So many generations, drawn from the seed, each as it is when it has ended.

        Every way is gone once at least.
        """
        random = Random(seed)
        ways, weights = list(self._ways), list(self._ways.values())
        gone = ways + random.choices(ways, weights, k=count - len(ways))
        random.shuffle(gone)
        plan = [(way, Random(random.getrandbits(64))) for way in gone]
        room = asyncio.Semaphore(AT_ONCE)

        async def run_way(way: Way, way_random: Random) -> generation_pb2.Generation | None:
            async with room:
                return await self._generation_of(way(way_random))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_way(way, way_random)) for way, way_random in plan]
        return [generation for task in tasks if (generation := task.result()) is not None]

    async def _generation_of(self, called: Awaitable[str]) -> generation_pb2.Generation | None:
        """What came of a call, at its end; None where it was refused, which here is a failure."""
        return await self.ended(await called)

    async def ended(self, generation: str) -> generation_pb2.Generation:
        """The generation at its end."""
        request = generations_pb2.WaitGenerationRequest(id=generation, wait=Duration(seconds=50))
        ended_generation: generation_pb2.Generation = (
            await self._generations.WaitGeneration(request)
        ).generation
        assert ended_generation.state >= generation_pb2.Generation.STATE_SUCCEEDED, ended_generation
        return ended_generation

    async def text(self, random: Random) -> str:
        """A text in one answer, of a length that the server or the model chooses."""
        request = text_request(
            prompt=self._words(random), options=self._options(random, random.choice(TEXTS))
        )
        if random.random() < 0.5:
            request.max_output_tokens = random.randint(1024, 2000)
        return str((await self._texts.GenerateText(request)).generation.id)

    async def stream(self, random: Random) -> str:
        """A text as it is written."""
        prompt = f"[[tokens={random.randint(1, 200)}]] {self._words(random)}"
        return await self._streamed(prompt, random)

    async def failing_stream(self, random: Random) -> str:
        """A text that fails on its way, and is paid as far as it came."""
        prompt = f"[[fail_after={random.randint(0, 60)}]] {self._words(random)}"
        return await self._streamed(prompt, random)

    async def cancelled_stream(self, random: Random) -> str:
        """A text that is cancelled on its way, and is paid as far as it came."""
        prompt = f"[[hang_after={random.randint(1, 60)}]] {self._words(random)}"
        return await self._streamed(prompt, random, cancel=True)

    async def _streamed(self, prompt: str, random: Random, *, cancel: bool = False) -> str:
        options = self._options(random, random.choice(TEXTS))
        call = self._texts.StreamText(stream_text_request(prompt=prompt, options=options))
        events = aiter(call)
        generation = str((await anext(events)).started.generation_id)
        with suppress(grpc.aio.AioRpcError):  # how it ended is asked for by its id
            async for event in events:
                if cancel and event.delta.text:
                    cancel = False
                    request = generations_pb2.CancelGenerationRequest(id=generation)
                    await self._generations.CancelGeneration(request)
        return generation

    async def picture(self, random: Random) -> str:
        """One picture or several."""
        return await self._pictured(random, "")

    async def failing_picture(self, random: Random) -> str:
        """A run that fails: by the second of a machine it is paid all the same."""
        return await self._pictured(random, "[[fail=E1001: out of memory]] ")

    async def _pictured(self, random: Random, directive: str) -> str:
        model = random.choice(PICTURES)
        request = image_request(
            prompt=directive + self._words(random), options=self._options(random, model)
        )
        if model != SINGLE_IMAGE_MODEL:
            request.count = random.randint(1, 4)
        return str((await self._images.GenerateImage(request)).generation.id)

    async def film(self, random: Random) -> str:
        """A film, at a price that hangs on what is asked for."""
        model = random.choice(FILMS)
        request = video_request(prompt=self._words(random), options=self._options(random, model))
        match model.rpartition("/")[2]:
            case "seedance-1-pro":
                request.duration.seconds = random.randint(3, 10)
                request.resolution = random.choice(["480p", "720p", "1080p"])
            case "kling-v2.1":
                request.first_frame.CopyFrom(FRAME)
                request.duration.seconds = random.choice([5, 10])
                request.resolution = random.choice(["720p", "1080p"])
        return str((await self._videos.GenerateVideo(request)).generation.id)

    async def sound(self, random: Random) -> str:
        """Music or speech; one of the models has no price."""
        model = random.choice(SOUNDS)
        request = audio_pb2.GenerateAudioRequest(options=self._options(random, model))
        if model == "minimax/speech-02-turbo":
            request.text = self._words(random)
        else:
            request.prompt = self._words(random)
        return str((await self._audios.GenerateAudio(request)).generation.id)

    async def verdict(self, random: Random) -> str:
        """Whether a text is safe, by a model whose price nobody knows."""
        request = safety_pb2.CheckSafetyRequest(
            content=self._words(random), options=self._options(random, GUARD)
        )
        return str((await self._safety.CheckSafety(request)).generation.id)

    def _words(self, random: Random) -> str:
        """A text of its own, so that no two inputs are alike."""
        return " ".join(f"{random.getrandbits(24):x}" for _ in range(random.randint(1, 40)))

    def _options(self, random: Random, model: str) -> options_pb2.GenerationOptions:
        return options_pb2.GenerationOptions(model=model)
