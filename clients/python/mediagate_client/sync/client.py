# Generated from aio/client.py by `make generate`. Do not edit.
"""The blocking client: one method for each thing a gate does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from mediagate.v1.audio_pb2 import GenerateAudioRequest
from mediagate.v1.audio_pb2_grpc import AudioServiceStub
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.image_pb2 import GenerateImageRequest
from mediagate.v1.image_pb2_grpc import ImageServiceStub
from mediagate.v1.modality_pb2 import Modality, Quality
from mediagate.v1.models_pb2 import GetModelRequest, Model, RunModelRequest, StreamModelRequest
from mediagate.v1.models_pb2_grpc import ModelServiceStub
from mediagate.v1.plan_pb2 import Plan
from mediagate.v1.safety_pb2 import CheckSafetyRequest
from mediagate.v1.safety_pb2_grpc import SafetyServiceStub
from mediagate.v1.text_pb2 import GenerateTextRequest, StreamTextRequest, TextStatus
from mediagate.v1.text_pb2_grpc import TextServiceStub
from mediagate.v1.video_pb2 import GenerateVideoRequest
from mediagate.v1.video_pb2_grpc import VideoServiceStub
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
from mediagate_client.backends import blocking as backend
from mediagate_client.channel import (
    DEFAULT_TARGET,
    SEPARATE_CONNECTION,
    Channels,
    call_metadata,
    channel_credentials,
    channel_options,
)
from mediagate_client.errors import MediagateError
from mediagate_client.generation_result import result_of_call
from mediagate_client.list_requests import models_request
from mediagate_client.requests import UnaryRequest, paid_request, plan_request, rpc_seconds
from mediagate_client.retry import RetryPolicy
from mediagate_client.sync.calls import Calls
from mediagate_client.sync.streams import ModelStream, TextStream
from mediagate_client.sync.webhooks import WebhookCalls

PaidRequest = TypeVar(
    "PaidRequest",
    GenerateTextRequest,
    GenerateImageRequest,
    GenerateVideoRequest,
    GenerateAudioRequest,
    CheckSafetyRequest,
    RunModelRequest,
)
Response = TypeVar("Response", bound=Message)


class Client(WebhookCalls):
    """A gate, for programs without an event loop. Safe to use from several threads.

    Every method raises a MediagateError where the call does not succeed. `rpc_timeout` is how
    many seconds a call may take with all its tries; unset, a little more than the gate itself
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
        channel: grpc.Channel | None = None,
        calls: Calls | None = None,
    ) -> None:
        """Prepare a client; it connects at the first call.

        `api_key` unset is what MEDIAGATE_API_KEY holds, if anything.
        `tls` True uses the system's roots; credentials of your own may be given instead.
        `read_timeout` bounds, in seconds, the calls that only look. `options` are channel options
        that win over ours. A `channel` of your own is used as it is, and not closed; `calls` sets
        clock, sleep and retry policy, for tests.
        """
        self._owned = channel is None
        self._channels = (
            Channels.same(channel) if channel else _open(target, tls=tls, options=options)
        )
        self.channel = self._channels.paid
        """The channel of paid calls, for stubs that this client does not wrap."""
        super().__init__(
            calls or Calls(call_metadata(api_key), retry or RetryPolicy()),
            self._channels,
            read_timeout,
        )
        self._texts = TextServiceStub(self.channel)
        self._images = ImageServiceStub(self.channel)
        self._videos = VideoServiceStub(self.channel)
        self._audios = AudioServiceStub(self.channel)
        self._models = ModelServiceStub(self.channel)
        self._catalog = ModelServiceStub(self._channels.control)
        self._safety = SafetyServiceStub(self.channel)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close the channels, and with them every call that still runs."""
        if self._owned:
            backend.close_channels(
                (self._channels.paid, self._channels.waits, self._channels.control)
            )

    def stream_text(
        self,
        prompt: str | StreamTextRequest = "",
        *,
        rpc_timeout: float | None = None,
        on_status: Callable[[TextStatus], None] | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> TextStream:
        """Stream a text while it is made: iterate over what this returns.

        `on_status` is told how it stands while the text has not begun.
        """
        request = paid_request(StreamTextRequest, prompt, arguments)
        return TextStream(
            self._calls,
            self._texts.StreamText,
            request,
            self._calls.deadline(rpc_seconds(request) if rpc_timeout is None else rpc_timeout),
            cancel=self._cancel_on_leave,
            find=self._get_if_failed,
            on_status=on_status,
        )

    def generate_text(
        self,
        prompt: str | GenerateTextRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[TextArguments],
    ) -> Generation:
        """Make a text; return its generation once it is whole, or after `wait`."""
        request = paid_request(GenerateTextRequest, prompt, arguments)
        response = self._paid(self._texts.GenerateText, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    def generate_image(
        self,
        prompt: str | GenerateImageRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[ImageArguments],
    ) -> Generation:
        """Make pictures; return the generation once they are done, or after `wait`."""
        request = paid_request(GenerateImageRequest, prompt, arguments)
        response = self._paid(self._images.GenerateImage, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    def generate_video(
        self,
        prompt: str | GenerateVideoRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[VideoArguments],
    ) -> Generation:
        """Begin a video; return the generation as it stands, at once unless `wait` says how long.

        Go on with `wait` or `watch`.
        """
        request = paid_request(GenerateVideoRequest, prompt, arguments)
        response = self._paid(self._videos.GenerateVideo, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    def generate_audio(
        self,
        prompt: str | GenerateAudioRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[AudioArguments],
    ) -> Generation:
        """Make music, an effect or (by `text`) speech; return once it is done, or after `wait`."""
        request = paid_request(GenerateAudioRequest, prompt, arguments)
        response = self._paid(self._audios.GenerateAudio, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    def check_safety(
        self,
        content: str | CheckSafetyRequest = "",
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[SafetyArguments],
    ) -> Generation:
        """Ask whether content is safe; the verdict is the generation's `safety`."""
        request = paid_request(CheckSafetyRequest, content, arguments)
        response = self._paid(self._safety.CheckSafety, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    def run_model(
        self,
        slug: str | RunModelRequest,
        *,
        rpc_timeout: float | None = None,
        raise_on_failure: bool = True,
        **arguments: Unpack[RunArguments],
    ) -> Generation:
        """Run any model by its slug, version or deployment, with `input` and `media` of its own."""
        request = paid_request(RunModelRequest, slug, arguments)
        response = self._paid(self._models.RunModel, request, rpc_timeout)
        return result_of_call(response.generation, request, raise_on_failure=raise_on_failure)

    def stream_model(
        self,
        slug: str | StreamModelRequest,
        *,
        rpc_timeout: float | None = None,
        on_status: Callable[[TextStatus], None] | None = None,
        **arguments: Unpack[StreamRunArguments],
    ) -> ModelStream:
        """Stream what any model makes: iterate over its text; its output is at the end.

        `on_status` is told how it stands while no text has come.
        """
        request = paid_request(StreamModelRequest, slug, arguments)
        return ModelStream(
            self._calls,
            self._models.StreamModel,
            request,
            self._calls.deadline(rpc_seconds(request) if rpc_timeout is None else rpc_timeout),
            cancel=self._cancel_on_leave,
            find=self._get_if_failed,
            on_status=on_status,
        )

    def plan(self, request: UnaryRequest) -> Plan:
        """Return what a request would run and cost; nothing is spent or stored."""
        seconds = self._read_timeout
        match request:
            case GenerateTextRequest():
                text = self._paid(self._texts.GenerateText, plan_request(request), seconds)
                return text.plan
            case GenerateImageRequest():
                image = self._paid(self._images.GenerateImage, plan_request(request), seconds)
                return image.plan
            case GenerateVideoRequest():
                video = self._paid(self._videos.GenerateVideo, plan_request(request), seconds)
                return video.plan
            case GenerateAudioRequest():
                audio = self._paid(self._audios.GenerateAudio, plan_request(request), seconds)
                return audio.plan
            case CheckSafetyRequest():
                check = self._paid(self._safety.CheckSafety, plan_request(request), seconds)
                return check.plan
            case RunModelRequest():
                run = self._paid(self._models.RunModel, plan_request(request), seconds)
                return run.plan

    def models(
        self,
        *,
        modality: ModalityName | Modality.ValueType | None = None,
        quality: QualityName | Quality.ValueType | None = None,
    ) -> tuple[Model, ...]:
        """Return the catalog, or the part of it that makes this, or is of this quality."""
        request = models_request(modality, quality)
        models: tuple[Model, ...] = ()
        while True:
            page = self._calls.read(self._catalog.ListModels, request, self._read_timeout)
            models += tuple(page.models)
            if not page.next_page_token:
                return models
            request.page_token = page.next_page_token

    def model(self, name: str) -> Model:
        """Return one model by its slug or an alias."""
        request = GetModelRequest(model=name)
        method = self._catalog.GetModel
        response = self._calls.read(method, request, self._read_timeout)
        return response.model

    def _paid(
        self,
        method: grpc.UnaryUnaryMultiCallable[PaidRequest, Response],
        request: PaidRequest,
        rpc_timeout: float | None,
    ) -> Response:
        """Send a paid request, again and again under its request_id if need be."""
        seconds = rpc_seconds(request) if rpc_timeout is None else rpc_timeout
        try:
            return self._calls.retried(method, request, self._calls.deadline(seconds))
        except MediagateError as failure:
            failure.request_id = request.request_id
            raise


def _open(
    target: str, *, tls: bool | grpc.ChannelCredentials, options: Mapping[str, str | int] | None
) -> Channels[grpc.Channel]:
    """Open none of them yet: each connects at its first call."""
    credentials = channel_credentials(tls=tls)

    def one(more: Mapping[str, str | int]) -> grpc.Channel:
        chosen = channel_options({**more, **(options or {})})
        if credentials is None:
            return grpc.insecure_channel(target, chosen)
        return grpc.secure_channel(target, credentials, chosen)

    return Channels(one({}), one(SEPARATE_CONNECTION), one(SEPARATE_CONNECTION))
