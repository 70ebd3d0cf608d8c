"""Python client of a Mediagate server, blocking and for asyncio.

    from mediagate_client import Client

    with Client() as client:
        for piece in client.stream_text("Why is the sky blue?", model="llama-70b"):
            print(piece, end="")

`AsyncClient` has the same methods for asyncio. Errors are exceptions of one tree: errors.py.
"""

from mediagate_client.aio.calls import AsyncCalls
from mediagate_client.aio.client import AsyncClient
from mediagate_client.aio.streams import AsyncModelStream, AsyncTextStream
from mediagate_client.errors import (
    ClientNotUsable,
    ContentBlocked,
    DataLost,
    DeadlineExceeded,
    GenerationCancelled,
    InternalError,
    InvalidRequest,
    MediagateError,
    MediaTooLarge,
    NotBuilt,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    RequestIdReused,
    RequestTooLarge,
    ResourceExhausted,
    RunFailed,
    StreamLost,
    Unauthenticated,
    Unavailable,
    UnknownArgument,
    Violation,
    WebhookNotVerified,
)
from mediagate_client.events import TextEvent
from mediagate_client.generation_result import is_terminal, media_of
from mediagate_client.media_inputs import MediaSource, media_input
from mediagate_client.messages import assistant, system, tool_result, user
from mediagate_client.requests import billable_request
from mediagate_client.retry import RetryPolicy
from mediagate_client.sync.calls import Calls
from mediagate_client.sync.client import Client
from mediagate_client.sync.streams import ModelStream, TextStream
from mediagate_client.webhook_verification import verify_webhook

__all__ = [
    "AsyncCalls",
    "AsyncClient",
    "AsyncModelStream",
    "AsyncTextStream",
    "Calls",
    "Client",
    "ClientNotUsable",
    "ContentBlocked",
    "DataLost",
    "DeadlineExceeded",
    "GenerationCancelled",
    "InternalError",
    "InvalidRequest",
    "MediaSource",
    "MediaTooLarge",
    "MediagateError",
    "ModelStream",
    "NotBuilt",
    "NotFound",
    "PermissionDenied",
    "PreconditionFailed",
    "QuotaExceeded",
    "RateLimited",
    "RequestIdReused",
    "RequestTooLarge",
    "ResourceExhausted",
    "RetryPolicy",
    "RunFailed",
    "StreamLost",
    "TextEvent",
    "TextStream",
    "Unauthenticated",
    "Unavailable",
    "UnknownArgument",
    "Violation",
    "WebhookNotVerified",
    "assistant",
    "billable_request",
    "is_terminal",
    "media_input",
    "media_of",
    "system",
    "tool_result",
    "user",
    "verify_webhook",
]
