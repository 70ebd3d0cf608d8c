"""Steps of the demo: a text, an image, a video of that image, a sound, a safety check."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mediagate_cli.exit_codes import error_message, exit_code_of, print_error
from mediagate_cli.format import format_cost
from mediagate_cli.model_choice import (
    accepts,
    accepts_exact_size,
    choose_model,
    find_parameter,
    supports_wav,
)
from mediagate_cli.progress import follow_submitted
from mediagate_cli.save_files import suffix_of
from mediagate_cli.text import StartPrinter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mediagate.v1.generation_pb2 import Generation
    from mediagate.v1.models_pb2 import Model
    from mediagate_client import AsyncClient

TEXT_PROMPT: Final = "In three sentences: what does a lighthouse keeper do all night?"
IMAGE_PROMPT: Final = "a lighthouse at dawn, oil on canvas"
VIDEO_PROMPT: Final = "waves roll in below the lighthouse"
AUDIO_PROMPT: Final = "slow waves and a distant fog horn"


@dataclass(frozen=True, slots=True)
class TourRequest:
    """Parameters of the demo."""

    folder: Path
    width: int
    height: int
    video_seconds: float
    audio_seconds: float
    max_cost_usd_nanos: int
    """Limit of a single step, where it costs anything."""


@dataclass(frozen=True, slots=True)
class TourStep:
    """Result of one step: a row of the table."""

    name: str
    model: str
    cost: str
    seconds: float
    result: str
    code: int = 0
    """Exit code."""


class Tour:
    """Runs the steps with one client."""

    def __init__(self, client: "AsyncClient", target: str, request: TourRequest) -> None:
        self._client = client
        self._target = target
        self._request = request
        self._picture: Generation | None = None
        self._models: Sequence[Model] | None = None
        self._max_cost: int | None = request.max_cost_usd_nanos

    async def run(self) -> list[TourStep]:
        """Run all steps; the others run where one fails."""
        steps = (
            ("text", self._text),
            ("image", self._image),
            ("video", self._video),
            ("audio", self._audio),
            ("check", self._check),
        )
        return [await self._run_step(name, step) for name, step in steps]

    async def _run_step(
        self, name: str, step: "Callable[[], Awaitable[tuple[Generation, Path | str]]]"
    ) -> TourStep:
        from mediagate_client import MediagateError, NotBuilt

        print_error(f"-- {name}")
        begun = time.monotonic()
        try:
            generation, file = await step()
        except NotBuilt:
            return TourStep(name, "", "", 0, "left out: this server does not do it yet")
        except MediagateError as error:
            seconds = time.monotonic() - begun
            return TourStep(
                name, "", "", seconds, error_message(error, self._target), exit_code_of(error)
            )
        seconds = time.monotonic() - begun
        return TourStep(name, generation.model, format_cost(generation.cost), seconds, str(file))

    async def _text(self) -> "tuple[Generation, Path]":
        from mediagate.v1.text_pb2 import StreamTextRequest
        from mediagate_client import billable_request

        request = billable_request(StreamTextRequest, TEXT_PROMPT, self._cost_limit())
        pieces = []
        start = StartPrinter()
        async with self._client.stream_text(request, on_started=start.print) as stream:
            async for piece in stream:
                print(piece, end="", flush=True)
                pieces.append(str(piece))
            print()
        file = self._request.folder / "lighthouse.txt"
        file.write_text("".join(pieces) + "\n", encoding="utf-8")
        if stream.started is not None and stream.started.sandbox:
            # Nothing is paid here, and a limit would refuse models whose price nobody publishes.
            self._max_cost = None
        return await self._client.get(stream.generation_id), file

    async def _image(self) -> "tuple[Generation, Path]":
        from mediagate.v1.image_pb2 import GenerateImageRequest
        from mediagate_client import billable_request

        width, height = self._request.width, self._request.height
        model = choose_model(
            await self._models_of("MODALITY_IMAGE"),
            lambda candidate: accepts_exact_size(candidate, width, height),
        )
        fields = {"model": model, "size": (width, height), "output_format": "png", "wait": 0}
        request = billable_request(GenerateImageRequest, IMAGE_PROMPT, fields | self._cost_limit())
        self._picture, file = await self._save_when_done(await self._client.generate_image(request))
        return self._picture, file

    async def _video(self) -> "tuple[Generation, Path]":
        from mediagate.v1.video_pb2 import GenerateVideoRequest
        from mediagate_client import billable_request

        seconds = self._request.video_seconds
        model = choose_model(
            await self._models_of("MODALITY_VIDEO"),
            lambda candidate: (
                accepts(candidate, "duration", seconds)
                and find_parameter(candidate, "first_frame") is not None
            ),
        )
        fields = {"model": model, "duration": seconds, "first_frame": self._picture, "wait": 0}
        request = billable_request(GenerateVideoRequest, VIDEO_PROMPT, fields | self._cost_limit())
        return await self._save_when_done(await self._client.generate_video(request))

    async def _audio(self) -> "tuple[Generation, Path]":
        from mediagate.v1.audio_pb2 import GenerateAudioRequest
        from mediagate_client import billable_request

        seconds = self._request.audio_seconds
        sounds = await self._models_of("MODALITY_AUDIO")
        fitting = [model for model in sounds if accepts(model, "duration", seconds)]
        model = choose_model(fitting, supports_wav) or choose_model(fitting, lambda _: True)
        fields = {"model": model, "duration": seconds, "output_format": "wav", "wait": 0}
        request = billable_request(GenerateAudioRequest, AUDIO_PROMPT, fields | self._cost_limit())
        return await self._save_when_done(await self._client.generate_audio(request))

    async def _check(self) -> "tuple[Generation, str]":
        from mediagate.v1.safety_pb2 import CheckSafetyRequest
        from mediagate_cli.format import format_verdict
        from mediagate_client import billable_request

        fields = {"wait": 0} | self._cost_limit()
        request = billable_request(CheckSafetyRequest, IMAGE_PROMPT, fields)
        generation = await follow_submitted(self._client, await self._client.check_safety(request))
        print(verdict := format_verdict(generation.safety))
        return generation, f"the picture's prompt is {verdict}"

    def _cost_limit(self) -> dict[str, object]:
        """Return the request fields of the cost limit."""
        return {"max_cost_usd_nanos": self._max_cost}

    async def _models_of(self, modality: str) -> "list[Model]":
        from mediagate.v1.modality_pb2 import Modality

        if self._models is None:
            self._models = await self._client.models()
        number = Modality.Value(modality)
        return [model for model in self._models if model.modality == number]

    async def _save_when_done(self, submitted: "Generation") -> "tuple[Generation, Path]":
        """Wait for the end of a generation and save its output."""
        from mediagate_client import media_of

        generation = await follow_submitted(self._client, submitted)
        [medium] = media_of(generation)
        file = self._request.folder / f"lighthouse{suffix_of(medium)}"
        await self._client.download(medium, file)
        print(file)
        return generation, file
