"""The one table of ranges and lengths: what the contract's comments say, field by field.

A number that is not set is not looked at, unless its range leaves out zero and it has no presence:
there, not set is out of range too. That a field is required stands in the contract itself.
"""

from collections.abc import Mapping
from typing import Final

from mediagate.v1.text_pb2 import ChatMessage
from mediagate.v1.usage_pb2 import UsageDimension
from mediagate_server import labels
from mediagate_server.interceptors.inbound.validation.constraints import (
    Constraint,
    FileSize,
    Https,
    Items,
    Labels,
    Number,
    OneOf,
    Pattern,
    Span,
    Text,
    WebhookUrl,
)
from mediagate_server.internet import Reach

Rules = Mapping[str, Mapping[str, Constraint]]
"""Message name (without the package), then field name, then what its value must satisfy."""

_DAY: Final = 86_400
INLINE_BYTES: Final = 3 * 1024 * 1024
"""The most bytes of an inline medium. Larger ones are MEDIA_TOO_LARGE."""

_NOT_NEGATIVE: Final = Number(0)
_PROMPT: Final = Text(1, 100_000, words=True)
_LONG: Final = Text(0, 100_000)
_GUIDANCE: Final = Number(0, 100)
_UNIT: Final = Number(0, 1)
_RANDOMNESS: Final = Number(0, 2)
_LENGTH: Final = Span(0, 600, over_low=True)
_SIDE: Final = Number(16, 8_192)
_MEDIA: Final = Items(16)
_ASPECT_RATIO: Final = Pattern(
    r"([1-9]\d?|100):([1-9]\d?|100)", 'two whole numbers from 1 to 100, for example "16:9"'
)
_UUID: Final = Pattern(
    r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}",
    "a UUID: 32 hexadecimal digits, bare or as 8-4-4-4-12",
)
_MEDIA_TYPE: Final = Pattern(r"[\w!#$&^.+-]{1,63}/[\w!#$&^.+-]{1,63}", "an IANA media type")
_SHA256: Final = Pattern(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")

_ID: Final = Text(0, 200)
"""Of a generation, an upload, a tenant, a key, a webhook: all of ours are far shorter."""
_MODEL: Final = Text(0, 400)
_MODELS: Final = Items(64, Text(1, 400))

_WAIT: Final = Span(0, _DAY)
_PAID: Final[Mapping[str, Constraint]] = {"request_id": _UUID, "wait": _WAIT}
_TEXT: Final[Mapping[str, Constraint]] = {
    "request_id": _UUID,
    "prompt": Text(1, 1_000_000, words=True),
    "system_prompt": Text(0, 1_000_000),
    "messages": Items(1_000),
    "max_output_tokens": Number(1),
    "temperature": _RANDOMNESS,
    "top_p": _UNIT,
    "top_k": _NOT_NEGATIVE,
    "stop_sequences": Items(16, Text(1, 256)),
    "seed": _NOT_NEGATIVE,
    "tools": Items(128),
}
_MODEL_INPUTS: Final = Items(256)
_RUN: Final[Mapping[str, Constraint]] = {
    "request_id": _UUID,
    "input": _MODEL_INPUTS,
    "model": Text(1, 400),
    "media": Items(64),
}
_OPTIONS: Final[Mapping[str, Constraint]] = {
    "model": _MODEL,
    "timeout": Span(0, _DAY, over_low=True),
    "max_cost_usd_nanos": _NOT_NEGATIVE,
    "disconnect_grace": Span(0, 300),
    "labels": Labels(),
    "reuse_within": Span(0, None),
    "model_parameters": _MODEL_INPUTS,
}
_PAGE: Final[Mapping[str, Constraint]] = {
    "page_size": _NOT_NEGATIVE,
    "page_token": Text(0, 1_000),
}


def rules(*, allow_http_loopback: bool = False, webhooks: Reach = Reach()) -> Rules:  # noqa: B008 - never changes
    """The table. With `allow_http_loopback` a medium may also be at plain http on this machine.

    `webhooks` is where callers may have webhooks sent to.
    """
    return {
        **_FIXED,
        "MediaInput": {
            "uri": Https(loopback=allow_http_loopback, public=True),
            "upload_id": _ID,
        },
        "GenerationOptions": {**_OPTIONS, "webhook_url": WebhookUrl(webhooks)},
    }


_FIXED: Final[Rules] = {
    "FallbackPolicy": {"models": Items(8, Text(1, 400))},
    "InlineMedia": {"data": FileSize(INLINE_BYTES), "media_type": _MEDIA_TYPE},
    "OutputRef": {"generation_id": _ID, "index": _NOT_NEGATIVE},
    "DocumentRef": {"generation_id": _ID},
    "Size": {"width": _SIDE, "height": _SIDE},
    "StreamTextRequest": {**_TEXT, "after_sequence": _NOT_NEGATIVE},
    "GenerateTextRequest": {**_TEXT, "wait": _WAIT},
    "ChatPart": {"text": Text(1, 1_000_000)},
    "ChatMessage": {"parts": Items(1_000), "tool_calls": Items(128), "tool_call_id": _ID},
    "ToolCall": {"id": _ID, "name": _ID},
    "ToolChoice": {"name": _ID},
    "Tool": {
        "name": Pattern(r"[a-zA-Z0-9_-]{1,64}", "1 to 64 of [a-zA-Z0-9_-]"),
        "description": Text(0, 10_000),
    },
    "GenerateImageRequest": {
        **_PAID,
        "prompt": _PROMPT,
        "negative_prompt": _LONG,
        "aspect_ratio": _ASPECT_RATIO,
        "megapixels": Number(0, 64, over_low=True),
        "count": Number(1, 16),
        "seed": _NOT_NEGATIVE,
        "guidance_scale": _GUIDANCE,
        "steps": Number(1, 1_000),
        "reference_images": _MEDIA,
        "strength": _UNIT,
        "loras": Items(8),
    },
    "Lora": {"uri": Https(or_name=True, public=True), "scale": Number(-10, 10)},
    "GenerateVideoRequest": {
        **_PAID,
        "prompt": _PROMPT,
        "negative_prompt": _LONG,
        "reference_images": _MEDIA,
        "duration": _LENGTH,
        "fps": Number(1, 120),
        "aspect_ratio": _ASPECT_RATIO,
        "resolution": Pattern(r"\d{3,4}p|4k", 'like "720p": 3 or 4 digits and "p", or "4k"'),
        "guidance_scale": _GUIDANCE,
        "motion_strength": _UNIT,
        "seed": _NOT_NEGATIVE,
    },
    "GenerateAudioRequest": {
        **_PAID,
        "prompt": _PROMPT,
        "text": _PROMPT,
        "lyrics": _LONG,
        "voice": Text(0, 256),
        "language": Text(0, 64),
        "speed": Number(0.25, 4),
        "duration": _LENGTH,
        "temperature": _RANDOMNESS,
        "top_k": _NOT_NEGATIVE,
        "top_p": _UNIT,
        "guidance_scale": _GUIDANCE,
        "seed": _NOT_NEGATIVE,
    },
    "CheckSafetyRequest": {
        **_PAID,
        "content": Text(1, 100_000, words=True),
        "messages": Items(1_000),
        "role": OneOf(
            (ChatMessage.ROLE_USER, ChatMessage.ROLE_ASSISTANT), "ROLE_USER or ROLE_ASSISTANT"
        ),
        "context": _LONG,
    },
    "RunModelRequest": {**_RUN, "wait": _WAIT},
    "StreamModelRequest": {**_RUN, "after_sequence": _NOT_NEGATIVE},
    "RunModelMedia": {"media": _MEDIA},
    "GetGenerationRequest": {"id": _ID},
    "WaitGenerationRequest": {"id": _ID, "wait": _WAIT},
    "WatchGenerationRequest": {"id": _ID, "after_sequence": _NOT_NEGATIVE},
    "CancelGenerationRequest": {"id": _ID},
    "DeleteGenerationRequest": {"id": _ID},
    "WatchGenerationsRequest": {"after_sequence": _NOT_NEGATIVE},
    "GenerationFilter": {"states": Items(32), "models": _MODELS, "labels": Labels()},
    "ListGenerationsRequest": _PAGE,
    "ListModelsRequest": _PAGE,
    "GetModelRequest": {"model": _MODEL},
    "UsageFilter": {"tenant": _ID, "models": _MODELS, "labels": Labels()},
    "GetUsageRequest": {
        "group_by": Items(
            3, OneOf(UsageDimension.values()[1:], "a dimension that the contract knows")
        ),
        "label_key": Pattern(labels.KEY, labels.KEY_IN_WORDS),
    },
    "ListChargesRequest": _PAGE,
    "GetReconciliationRequest": {"page_size": _NOT_NEGATIVE},
    "ListTenantsRequest": _PAGE,
    "GetTenantRequest": {"id": _ID},
    "OverrideBudgetRequest": {"tenant": _ID, "budget": _ID, "limit_usd_nanos": _NOT_NEGATIVE},
    "CreateKeyRequest": {"tenant": _ID, "scopes": Items(16, _ID), "description": Text(0, 200)},
    "ListKeysRequest": {"tenant": _ID},
    "RevokeKeyRequest": {"id": _ID},
    "RotateWebhookSecretRequest": {"tenant": _ID},
    "ListUndeliveredWebhooksRequest": {**_PAGE, "tenant": _ID},
    "RedeliverWebhookRequest": {"id": _ID},
    "UploadMediaRequest": {"chunk": FileSize(2 * 1024 * 1024)},
    "UploadMetadata": {
        "media_type": _MEDIA_TYPE,
        "size_bytes": _NOT_NEGATIVE,
        "sha256": _SHA256,
    },
    "ReadMediaRequest": {"upload_id": _ID, "offset": _NOT_NEGATIVE, "limit": _NOT_NEGATIVE},
}
