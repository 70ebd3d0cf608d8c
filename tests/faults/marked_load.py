"""The mixed load with a mark in everything that is asked and made, to be searched for later."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from random import Random

import grpc
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    generation_pb2,
    media_pb2,
    media_pb2_grpc,
    medium_pb2,
    models_pb2_grpc,
    options_pb2,
)
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from tests.builders import image_request, run_model_request, text_request, video_request
from tests.grpc_errors import reason_of

from .mixed_load import MixedLoad, Way
from .sample_requests import MARK

TAKES_PICTURES = "black-forest-labs/flux-dev"
REFUSED = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION}
SMALL, LARGE = 1_000, 300_000
"""Bytes of a picture that goes to upstream within the request, and of one that is handed over."""


class MarkedLoad(MixedLoad):
    """One tenant's load, with the mark in every word and in every file.

    `refused` counts the calls that were refused, by reason: not one of those is a generation.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.refused: Counter[str] = Counter()
        self._media: media_pb2_grpc.MediaServiceAsyncStub = media_pb2_grpc.MediaServiceStub(channel)
        self._models: models_pb2_grpc.ModelServiceAsyncStub
        self._models = models_pb2_grpc.ModelServiceStub(channel)

    def _weights(self) -> dict[Way, int]:
        return {
            **super()._weights(),
            self.said: 12,
            self.inline: 6,
            self.uploaded: 4,
            self.film_of_a_picture: 4,
            self.raw: 6,
            self.screened: 3,
        }

    async def _generation_of(self, called: Awaitable[str]) -> generation_pb2.Generation | None:
        try:
            return await super()._generation_of(called)
        except grpc.aio.AioRpcError as error:
            if error.code() not in REFUSED:
                raise
            self.refused[reason_of(error)] += 1
            return None

    async def said(self, random: Random) -> str:
        """A text that is nothing but marks."""
        request = text_request(
            prompt=f"[[say={self._words(random)}]] {self._words(random)}",
            system_prompt=self._words(random),
            options=self._options(random, "meta/meta-llama-3-70b-instruct"),
        )
        return str((await self._texts.GenerateText(request)).generation.id)

    async def inline(self, random: Random) -> str:
        """A picture after one that comes with the request, small or not so small."""
        picture = medium_pb2.InlineMedia(data=_picture(random, random.choice((SMALL, LARGE))))
        return await self._generate_image_from(random, medium_pb2.MediaInput(inline=picture))

    async def uploaded(self, random: Random) -> str:
        """A picture after one that was uploaded."""
        answer = await self._media.UploadMedia(_upload(_picture(random, SMALL)))
        return await self._generate_image_from(
            random, medium_pb2.MediaInput(upload_id=answer.upload_id)
        )

    async def _generate_image_from(self, random: Random, medium: medium_pb2.MediaInput) -> str:
        request = image_request(
            prompt=self._words(random),
            negative_prompt=self._words(random),
            reference_images=[medium],
            options=self._options(random, TAKES_PICTURES),
        )
        return str((await self._images.GenerateImage(request)).generation.id)

    async def film_of_a_picture(self, random: Random) -> str:
        """A film that begins with a picture that was made before it."""
        picture = await self.ended(await self._generate_frame(random))
        first = medium_pb2.OutputRef(generation_id=picture.id)
        request = video_request(
            prompt=self._words(random),
            first_frame=medium_pb2.MediaInput(output=first),
            options=self._options(random, "minimax/video-01"),
        )
        return str((await self._videos.GenerateVideo(request)).generation.id)

    async def _generate_frame(self, random: Random) -> str:
        request = image_request(
            prompt=self._words(random), options=self._options(random, TAKES_PICTURES)
        )
        return str((await self._images.GenerateImage(request)).generation.id)

    async def raw(self, random: Random) -> str:
        """A model by its slug."""
        given = Struct()
        given.update({"prompt": self._words(random)})
        options = self._options(random, "")
        request = run_model_request("black-forest-labs/flux-schnell", input=given, options=options)
        return str((await self._models.RunModel(request)).generation.id)

    async def screened(self, random: Random) -> str:
        """A picture whose words are checked first, for which nobody knows the price."""
        options = self._options(random, TAKES_PICTURES)
        options.screen_prompt = True
        request = image_request(prompt=self._words(random), options=options)
        return str((await self._images.GenerateImage(request)).generation.id)

    def _words(self, random: Random) -> str:
        return " ".join(
            f"{MARK}{random.getrandbits(24):x}" for _ in range(random.choice((3, 12, 400)))
        )

    def _options(self, random: Random, model: str) -> options_pb2.GenerationOptions:
        options = super()._options(random, model)
        if team := random.choice(("", "a", "b")):
            options.labels["team"] = team
        return options


def _picture(random: Random, size: int) -> bytes:
    """A picture that any reader takes, with marks behind its end."""
    image = render_file(ImageRecipe("a/b", "x", random.getrandbits(31), 64, 64, "png"))
    return image + f"{MARK}{random.getrandbits(64):016x}".encode() * (size // 20)


async def _upload(content: bytes) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    yield media_pb2.UploadMediaRequest(metadata=media_pb2.UploadMetadata())
    yield media_pb2.UploadMediaRequest(chunk=content)
