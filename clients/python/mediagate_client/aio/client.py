"""The client for asyncio: one method for each rpc of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NoReturn, Self, TypeVar, Unpack

import grpc
import grpc.aio
from google.protobuf.message import Message

from mediagate.v1.audio_pb2 import GenerateAudioRequest
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.image_pb2 import GenerateImageRequest
from mediagate.v1.modality_pb2 import Modality, Quality
from mediagate.v1.models_pb2 import GetModelRequest, Model, RunModelRequest, StreamModelRequest
from mediagate.v1.plan_pb2 import Plan
from mediagate.v1.safety_pb2 import CheckSafetyRequest
from mediagate.v1.text_pb2 import GenerateTextRequest, StreamTextRequest, TextStarted, TextStatus
from mediagate.v1.video_pb2 import GenerateVideoRequest
from mediagate_client.aio.calls import AsyncCalls
from mediagate_client.aio.streams import AsyncModelStream, AsyncTextStream
from mediagate_client.aio.stubs import AsyncStubs
from mediagate_client.aio.webhooks import AsyncWebhookCalls
from mediagate_client.arguments import (
    AudioArguments,
    ImageArguments,
    ModalityName,
    QualityName,
    RunArguments,
    SafetyArguments,
    StreamArguments,
    StreamRunArguments,
    TextArguments,
    VideoArguments,
)
from mediagate_client.backends import asynchronous as backend
from mediagate_client.channel import (
    DEFAULT_TARGET,
    SEPARATE_CONNECTION,
    Channels,
    call_metadata,
    channel_credentials,
    channel_options,
    check_target,
)
from mediagate_client.connections import Connections
from mediagate_client.conversion import build
from mediagate_client.errors import ClientNotUsable, MediagateError, local_invalid_request
from mediagate_client.generation_result import result_of_call
from mediagate_client.list_requests import models_request
from mediagate_client.requests import UnaryRequest, billable_request, plan_request, rpc_seconds
from mediagate_client.retry import RetryPolicy, check_seconds

BillableRequest = TypeVar(
    "BillableRequest",
    GenerateTextRequest,
    GenerateImageRequest,
    GenerateVideoRequest,
    GenerateAudioRequest,
    CheckSafetyRequest,
    RunModelRequest,
)
Response = TypeVar("Response", bound=Message)


class AsyncClient(AsyncWebhookCalls):
    """Client of a Mediagate server, for asyncio. Made anywhere, used in any event loop.

    Every method raises a MediagateError where the call does not succeed. `rpc_timeout` is how
    many seconds a call may take with all its attempts; unset, a little more than the server itself
    gives the generation. It is not the field `timeout`, which is how long the generation may
    take: where a call ends first that was to wait for the end, DeadlineExceeded has the generation
    as it stands, which goes on; with `wait` of your own it is returned.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        api_key: str | None = None,
        tls: bool | grpc.ChannelCredentials = False,
        retry: RetryPolicy | None = None,
        read_timeout: float = 30.0,
        options: Mapping[str, str | int] | None = None,
        channel: grpc.aio.Channel | None = None,
        calls: AsyncCalls | None = None,
    ) -> None:
        """Create a client; it connects at the first call.

        `api_key` defaults to the environment variable MEDIAGATE_API_KEY.
        `tls` True uses the system's root certificates; credentials may be given instead.
        `read_timeout` is the limit of calls that only read, in seconds. `options` override the
        default channel options. A `channel` of your own is used as it is, and not closed; `calls`
        sets clock, sleep and retry policy, for tests.
        """
        credentials = channel_credentials(tls=tls)
        check_target(target)
        check_seconds("read_timeout", read_timeout)

        def open_stubs() -> AsyncStubs:
            if channel is not None:
                return AsyncStubs(Channels.shared(channel))
            return AsyncStubs(_open_channels(target, credentials, options))

        self._owns_channel = channel is None
        super().__init__(
            calls or AsyncCalls(call_metadata(api_key), retry or RetryPolicy()),
            Connections(open_stubs),
            read_timeout,
        )

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel of billable calls, for stubs that this client does not wrap."""
        return self._stubs.channels.billable

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Close the channels and all calls that still run; later ones raise ClientNotUsable."""
        for loop, stubs in self._connections.close():
            if self._owns_channel:
                channels = stubs.channels
                await backend.close_channels(
                    loop, (channels.billable, channels.waits, channels.control)
                )

    def __copy__(self) -> Self:
        """Return the client itself: it has its connections only once."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return the client itself: it has its connections only once."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: connections cannot be, and the API key is not to be."""
        raise ClientNotUsable("a client cannot be pickled: make one in each process")

    def stream_text(
        self,
        prompt: str | StreamTextRequest = "",
        *,
        rpc_timeout: float | None = None,
        on_started: Callable[[TextStarted], None] | None = None,
        on_status: Callable[[TextStatus], None] | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncTextStream:
        """Stream a text while it is generated: iterate over the result.

        `on_started` is called when the server has accepted it, and again where a cut stream is
        resumed; `on_status` with the status while the text has not begun.
        """
        request = billable_request(StreamTextRequest, prompt, arguments)
        return AsyncTextStream(
            self._calls,
            lambda: self._stubs.texts.StreamText,
            request,
            self._calls.deadline(rpc_seconds(request) if rpc_timeout is None else rpc_timeout),
            cancel=self._cancel_on_leave,
            find=self._get_if_failed,
            on_started=on_started,
            on_status=on_status,
        )

    async def generate_text(
        self,
        prompt: str | GenerateTextRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[TextArguments],
    ) -> Generation:
        """Generate a text; return the generation at its end, or after `wait`."""
        request = billable_request(GenerateTextRequest, prompt, arguments)
        response = await self._call_billable(self._stubs.texts.GenerateText, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    async def generate_image(
        self,
        prompt: str | GenerateImageRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[ImageArguments],
    ) -> Generation:
        """Generate images; return the generation at its end, or after `wait`."""
        request = billable_request(GenerateImageRequest, prompt, arguments)
        response = await self._call_billable(self._stubs.images.GenerateImage, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    async def generate_video(
        self,
        prompt: str | GenerateVideoRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[VideoArguments],
    ) -> Generation:
        """Start a video; return its generation at once, or at its end within the field `wait`.

        Follow it with the methods `wait` or `watch`.
        """
        request = billable_request(GenerateVideoRequest, prompt, arguments)
        response = await self._call_billable(self._stubs.videos.GenerateVideo, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    async def generate_audio(
        self,
        prompt: str | GenerateAudioRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[AudioArguments],
    ) -> Generation:
        """Generate music, a sound effect or (`text`) speech; return at its end, or after `wait`."""
        request = billable_request(GenerateAudioRequest, prompt, arguments)
        response = await self._call_billable(self._stubs.audios.GenerateAudio, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    async def check_safety(
        self,
        content: str | CheckSafetyRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[SafetyArguments],
    ) -> Generation:
        """Check whether content is safe; the verdict is the generation's `safety`."""
        request = billable_request(CheckSafetyRequest, content, arguments)
        response = await self._call_billable(self._stubs.safety.CheckSafety, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    async def run_model(
        self,
        slug: str | RunModelRequest,
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[RunArguments],
    ) -> Generation:
        """Run any model by its slug, version or deployment, with `input` and `media` of its own."""
        request = billable_request(RunModelRequest, slug, arguments)
        response = await self._call_billable(self._stubs.models.RunModel, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    def stream_model(
        self,
        slug: str | StreamModelRequest,
        *,
        rpc_timeout: float | None = None,
        on_started: Callable[[TextStarted], None] | None = None,
        on_status: Callable[[TextStatus], None] | None = None,
        **arguments: Unpack[StreamRunArguments],
    ) -> AsyncModelStream:
        """Stream what any model makes: iterate over its text; its output is at the end.

        `on_started` and `on_status` are as in `stream_text`.
        """
        request = billable_request(StreamModelRequest, slug, arguments)
        return AsyncModelStream(
            self._calls,
            lambda: self._stubs.models.StreamModel,
            request,
            self._calls.deadline(rpc_seconds(request) if rpc_timeout is None else rpc_timeout),
            cancel=self._cancel_on_leave,
            find=self._get_if_failed,
            on_started=on_started,
            on_status=on_status,
        )

    async def plan(self, request: UnaryRequest) -> Plan:
        """Return the plan of a request, its model and its cost; nothing is spent or stored."""
        seconds = self._read_timeout
        match request:
            case GenerateTextRequest():
                text = await self._call_billable(
                    self._stubs.texts.GenerateText, plan_request(request), seconds
                )
                return text.plan
            case GenerateImageRequest():
                image = await self._call_billable(
                    self._stubs.images.GenerateImage, plan_request(request), seconds
                )
                return image.plan
            case GenerateVideoRequest():
                video = await self._call_billable(
                    self._stubs.videos.GenerateVideo, plan_request(request), seconds
                )
                return video.plan
            case GenerateAudioRequest():
                audio = await self._call_billable(
                    self._stubs.audios.GenerateAudio, plan_request(request), seconds
                )
                return audio.plan
            case CheckSafetyRequest():
                check = await self._call_billable(
                    self._stubs.safety.CheckSafety, plan_request(request), seconds
                )
                return check.plan
            case RunModelRequest():
                run = await self._call_billable(
                    self._stubs.models.RunModel, plan_request(request), seconds
                )
                return run.plan
            case _:
                raise local_invalid_request("request", "expected the request of a call")

    async def models(
        self,
        *,
        modality: ModalityName | Modality.ValueType | None = None,
        quality: QualityName | Quality.ValueType | None = None,
    ) -> tuple[Model, ...]:
        """List the models of the catalog, optionally of one modality or quality."""
        request = models_request(modality, quality)
        models: tuple[Model, ...] = ()
        while True:
            page = await self._calls.read(
                self._stubs.catalog.ListModels, request, self._read_timeout
            )
            models += tuple(page.models)
            if not page.next_page_token:
                return models
            request.page_token = page.next_page_token

    async def model(self, name: str) -> Model:
        """Get a model by its slug or an alias."""
        request = build(GetModelRequest, model=name)
        method = self._stubs.catalog.GetModel
        response = await self._calls.read(method, request, self._read_timeout)
        return response.model

    async def _call_billable(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[BillableRequest, Response],
        request: BillableRequest,
        rpc_timeout: float | None,
    ) -> Response:
        """Send a billable request with retries, all under one request_id."""
        seconds = rpc_seconds(request) if rpc_timeout is None else rpc_timeout
        try:
            return await self._calls.call_with_retries(
                method, request, self._calls.deadline(seconds)
            )
        except MediagateError as failure:
            failure.request_id = request.request_id
            raise


def _open_channels(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Mapping[str, str | int] | None,
) -> Channels[grpc.aio.Channel]:
    """Create the channels; each connects at its first call."""

    def open_channel(extra: Mapping[str, str | int]) -> grpc.aio.Channel:
        merged = channel_options({**extra, **(options or {})})
        if credentials is None:
            return grpc.aio.insecure_channel(target, merged)
        return grpc.aio.secure_channel(target, credentials, merged)

    return Channels(
        open_channel({}), open_channel(SEPARATE_CONNECTION), open_channel(SEPARATE_CONNECTION)
    )
