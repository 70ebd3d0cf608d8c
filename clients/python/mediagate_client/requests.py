"""Billable requests: built from keywords or copied, always with a request_id.

Also the default timeout of each kind of call. Sends nothing.
"""

import uuid
from collections.abc import Mapping
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration

from mediagate.v1.audio_pb2 import GenerateAudioRequest
from mediagate.v1.image_pb2 import GenerateImageRequest
from mediagate.v1.models_pb2 import RunModelRequest, StreamModelRequest
from mediagate.v1.options_pb2 import GenerationOptions
from mediagate.v1.safety_pb2 import CheckSafetyRequest
from mediagate.v1.text_pb2 import GenerateTextRequest, StreamTextRequest
from mediagate.v1.video_pb2 import GenerateVideoRequest
from mediagate_client.conversion import fill, seconds_of
from mediagate_client.errors import local_invalid_request

GRACE_SECONDS: Final = 15
"""Disconnect grace: how long the server continues a call after a disconnect, for a retry.

The contract's default; sent all the same, as an older server would cancel at once.
"""

_MARGIN_SECONDS: Final = 60.0
_DEFAULT_TIMEOUT: Final[Mapping[str, float]] = {
    "StreamTextRequest": 600,
    "GenerateTextRequest": 600,
    "GenerateImageRequest": 300,
    "GenerateAudioRequest": 300,
    "GenerateVideoRequest": 1800,
    "CheckSafetyRequest": 600,
    "RunModelRequest": 1800,
    "StreamModelRequest": 1800,
}
_SUBJECTS: Final[Mapping[str, str]] = {
    "CheckSafetyRequest": "content",
    "RunModelRequest": "model",
    "StreamModelRequest": "model",
}
"""Field of the main argument, where it is not `prompt`."""
_OPTION_NAMES: Final = frozenset(GenerationOptions.DESCRIPTOR.fields_by_name)

UnaryRequest = (
    GenerateTextRequest
    | GenerateImageRequest
    | GenerateVideoRequest
    | GenerateAudioRequest
    | CheckSafetyRequest
    | RunModelRequest
)
StreamRequest = StreamTextRequest | StreamModelRequest
Request = TypeVar(
    "Request",
    StreamTextRequest,
    StreamModelRequest,
    GenerateTextRequest,
    GenerateImageRequest,
    GenerateVideoRequest,
    GenerateAudioRequest,
    CheckSafetyRequest,
    RunModelRequest,
)


def billable_request(
    kind: type[Request], prompt: str | Request, arguments: Mapping[str, object]
) -> Request:
    """Build a billable request that may be retried: with a request_id and a disconnect grace.

    Either `prompt` is a request, which is copied, or it is the main argument (the prompt, the
    content to check, the model to run) and `arguments` are the fields of the request and of its
    options. Raises InvalidRequest, with the field, for a value that does not fit, and TypeError for
    a keyword that is no field.
    """
    request = kind()
    if isinstance(prompt, str):
        fill(request, {_SUBJECTS.get(kind.__name__, "prompt"): prompt})
        fields = dict(arguments)
        fill(request, {"options": fields.pop("options", None)})
        options = {name: fields.pop(name) for name in list(fields) if name in _OPTION_NAMES}
        if options:
            fill(request.options, options)
        fill(request, fields)
    elif not isinstance(prompt, kind):
        description = f"expected a text or a {kind.__name__}, not {type(prompt).__name__}"
        raise local_invalid_request(_SUBJECTS.get(kind.__name__, "prompt"), description)
    elif arguments:
        raise TypeError(f"a ready-made request takes no further fields: {', '.join(arguments)}")
    else:
        request.CopyFrom(prompt)
    # Streams have no such field.
    if getattr(request, "validate_only", False):
        raise local_invalid_request(
            "validate_only", "this call makes something; plan() asks for the plan"
        )
    request.request_id = request.request_id or str(uuid.uuid4())
    if not request.options.HasField("disconnect_grace"):
        request.options.disconnect_grace.seconds = GRACE_SECONDS
    return request


Planned = TypeVar(
    "Planned",
    GenerateTextRequest,
    GenerateImageRequest,
    GenerateVideoRequest,
    GenerateAudioRequest,
    CheckSafetyRequest,
    RunModelRequest,
)


def plan_request(request: Planned) -> Planned:
    """Return a copy of the request with `validate_only`, for its plan."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.validate_only = True
    return copy


def waits_for_end(request: UnaryRequest) -> bool:
    """Whether the response comes at the end of the generation: no `wait`, and not a video."""
    return not (request.HasField("wait") or isinstance(request, GenerateVideoRequest))


def rpc_seconds(request: StreamRequest | UnaryRequest) -> float:
    """Return the default timeout of a call with all its attempts, in seconds.

    A minute more than the server's own timeout, so that its response always comes first.
    """
    if not isinstance(request, StreamRequest):
        if request.HasField("wait"):
            return _seconds(request.wait, "wait") + _MARGIN_SECONDS
        if isinstance(request, GenerateVideoRequest):
            return _MARGIN_SECONDS
    if request.options.HasField("timeout"):
        return _seconds(request.options.timeout, "options.timeout") + _MARGIN_SECONDS
    return _DEFAULT_TIMEOUT[type(request).__name__] + _MARGIN_SECONDS


def _seconds(duration: Duration, field: str) -> float:
    return seconds_of(duration, field) or 0.0
