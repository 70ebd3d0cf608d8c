"""Paid requests: made from keywords or taken ready-made, always with a request_id.

Knows which field goes where and how long each kind of call may take; sends nothing.
"""

import uuid
from collections.abc import Mapping
from typing import Final, TypeVar

from mediagate.v1.audio_pb2 import GenerateAudioRequest
from mediagate.v1.image_pb2 import GenerateImageRequest
from mediagate.v1.models_pb2 import RunModelRequest, StreamModelRequest
from mediagate.v1.options_pb2 import GenerationOptions
from mediagate.v1.safety_pb2 import CheckSafetyRequest
from mediagate.v1.text_pb2 import GenerateTextRequest, StreamTextRequest
from mediagate.v1.video_pb2 import GenerateVideoRequest
from mediagate_client.conversion import fill
from mediagate_client.errors import local_invalid_request

GRACE_SECONDS: Final = 15
"""How long a gate holds a paid call for us after a cut, so that we can send it again.

It is the contract's own default; said all the same, lest a gate that is older cancels at once.
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
"""What a request is about, where that is not called its prompt."""
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


def paid_request(
    kind: type[Request], prompt: str | Request, arguments: Mapping[str, object]
) -> Request:
    """Return a request of that kind, ready to be sent and, if need be, sent again.

    Either `prompt` is a ready-made request, which is copied, or it is what the request is about
    (its prompt, the content to check, the model to run) and `arguments` are the fields of the
    request and of its options. Raises InvalidRequest, the field named, for
    a value that does not fit, and TypeError for a keyword that is no field.
    """
    request = kind()
    if isinstance(prompt, str):
        setattr(request, _SUBJECTS.get(kind.__name__, "prompt"), prompt)
        given = dict(arguments)
        fill(request, {"options": given.pop("options", None)})
        options = {name: given.pop(name) for name in list(given) if name in _OPTION_NAMES}
        if options:
            fill(request.options, options)
        fill(request, given)
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
    """Return a copy of the request that asks for its plan alone."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.validate_only = True
    return copy


def waits_for_end(request: UnaryRequest) -> bool:
    """Say whether the answer is to come at the end: no `wait` was asked for, and it is no video."""
    return not (request.HasField("wait") or isinstance(request, GenerateVideoRequest))


def rpc_seconds(request: StreamRequest | UnaryRequest) -> float:
    """Return how long the call may take with all its tries, where the caller did not say.

    A minute more than the gate itself gives it, so that its answer always comes first.
    """
    if not isinstance(request, StreamRequest):
        if request.HasField("wait"):
            return request.wait.ToTimedelta().total_seconds() + _MARGIN_SECONDS
        if isinstance(request, GenerateVideoRequest):
            return _MARGIN_SECONDS
    if request.options.HasField("timeout"):
        return request.options.timeout.ToTimedelta().total_seconds() + _MARGIN_SECONDS
    return _DEFAULT_TIMEOUT[type(request).__name__] + _MARGIN_SECONDS
