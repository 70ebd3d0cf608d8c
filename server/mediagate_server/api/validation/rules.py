"""Field rules and cross-field rules of requests: what the contract's comments say, as data.

A number that is not set is not checked, unless its range excludes zero and it has no presence:
there, not set is out of range too. That a field is required stands in the contract itself.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mediagate.v1.options_pb2 import WHEN_UNCONFIRMED_NEXT, FallbackPolicy
from mediagate.v1.text_pb2 import ChatMessage, ResponseFormat, ToolChoice
from mediagate.v1.usage_pb2 import USAGE_DIMENSION_LABEL, UsageDimension
from mediagate_server.api.validation.constraint_types import (
    Constraint,
    DurationRange,
    FileSize,
    HttpsUrl,
    Labels,
    MaxItems,
    NumberRange,
    OneOf,
    Pattern,
    TextLength,
    WebhookUrlConstraint,
)
from mediagate_server.config import tenants
from mediagate_server.network.egress_policy import EgressPolicy

RuleViolation = Iterator[tuple[str, str]]
"""Which field (empty: the message itself) and what is wrong."""
CrossFieldRule = Callable[[Any], RuleViolation]


def _exactly_one_set(first: str, second: str) -> CrossFieldRule:
    """Exactly one of two fields without presence must be there."""

    def check(message: Any) -> RuleViolation:
        there = bool(getattr(message, first)), bool(getattr(message, second))
        if there == (False, False):
            yield first, f"must be set, or {second}"
        elif there == (True, True):
            yield first, f"must not be set together with {second}"

    return check


def _oneof_set(oneof: str) -> CrossFieldRule:
    """The oneof must hold something."""

    def check(message: Any) -> RuleViolation:
        if message.WhichOneof(oneof) is None:
            yield "", f"must have a {oneof}"

    return check


def _last_turn_is_not_the_models(message: Any) -> RuleViolation:
    turns = message.messages
    if turns and turns[-1].role == ChatMessage.ROLE_ASSISTANT:
        yield f"messages[{len(turns) - 1}].role", "must not be ROLE_ASSISTANT in the last turn"


def _a_choice_needs_tools(message: Any) -> RuleViolation:
    if message.HasField("tool_choice") and not message.tools:
        yield "tool_choice", "must only be set with tools"


def _going_on_needs_a_name(message: Any) -> RuleViolation:
    if message.after_sequence > 0 and not message.request_id:
        yield "request_id", "must be set where after_sequence is"


def _only_tools_answer_calls(message: Any) -> RuleViolation:
    if message.tool_call_id and message.role != ChatMessage.ROLE_TOOL:
        yield "tool_call_id", "must only be set with ROLE_TOOL"


def _only_a_schema_has_a_schema(message: Any) -> RuleViolation:
    by_schema = message.kind == ResponseFormat.KIND_JSON_SCHEMA
    if message.HasField("json_schema") and not by_schema:
        yield "json_schema", "must only be set with KIND_JSON_SCHEMA"
    elif by_schema and not message.HasField("json_schema"):
        yield "json_schema", "must be set with KIND_JSON_SCHEMA"


def _only_a_named_tool_has_a_name(message: Any) -> RuleViolation:
    if message.name and message.mode != ToolChoice.MODE_NAMED:
        yield "name", "must only be set with MODE_NAMED"


def _only_a_list_has_models(message: Any) -> RuleViolation:
    if message.mode == FallbackPolicy.MODE_LIST:
        return
    if message.models:
        yield "models", "must only be set with MODE_LIST"
    if message.after_content_refusal:
        yield "after_content_refusal", "must only be set with MODE_LIST"


_VIDEO_SOURCES: Final = ("first_frame", "source_video")


def _something_to_show(message: Any) -> RuleViolation:
    if message.prompt or message.reference_images:
        return
    if not any(message.HasField(source) for source in _VIDEO_SOURCES):
        yield "prompt", "must be set, or a picture or video to work from"


def _something_to_hear(message: Any) -> RuleViolation:
    if message.prompt and message.text:
        yield "prompt", "must not be set together with text"
    elif not (message.prompt or message.text or message.lyrics.strip()):
        yield "prompt", "must be set, or text, or lyrics"


def _only_content_has_role_and_context(message: Any) -> RuleViolation:
    if not message.messages:
        return
    if message.role:
        yield "role", "must not be set together with messages"
    if message.HasField("context"):
        yield "context", "must not be set together with messages"


def _a_run_names_its_model(message: Any) -> RuleViolation:
    options = message.options
    if options.model:
        yield "options.model", "must not be set: the model is named in `model`"
    if options.quality:
        yield "options.quality", "must not be set: the model is named in `model`"
    if options.HasField("model_parameters"):
        yield "options.model_parameters", "must not be set: all inputs are in `input`"


def _who_may_pay_twice_bounds_the_cost(message: Any) -> RuleViolation:
    is_next = message.when_unconfirmed == WHEN_UNCONFIRMED_NEXT
    if is_next and not message.HasField("max_cost_usd_nanos"):
        yield "when_unconfirmed", "must only be NEXT where max_cost_usd_nanos is set"


_TEXT_RELATIONS: Final = (
    _exactly_one_set("prompt", "messages"),
    _last_turn_is_not_the_models,
    _a_choice_needs_tools,
)


def _a_time_begins_before_it_ends(message: Any) -> RuleViolation:
    if not (message.HasField("start_time") and message.HasField("end_time")):
        return
    start, end = message.start_time, message.end_time
    if (start.seconds, start.nanos) >= (end.seconds, end.nanos):
        yield "end_time", "must be after start_time"


def _what_was_created_after_comes_before(message: Any) -> RuleViolation:
    if not (message.HasField("created_after") and message.HasField("created_before")):
        return
    first, last = message.created_after, message.created_before
    if (first.seconds, first.nanos) >= (last.seconds, last.nanos):
        yield "created_before", "must be after created_after"


def _only_labels_have_a_key(message: Any) -> RuleViolation:
    seen: set[int] = set()
    for index, dimension in enumerate(message.group_by):
        if dimension in seen:
            yield f"group_by[{index}]", "must not be there twice"
        seen.add(dimension)
    by_label = USAGE_DIMENSION_LABEL in message.group_by
    if by_label and not message.label_key:
        yield "label_key", "must be set with USAGE_DIMENSION_LABEL"
    elif message.label_key and not by_label:
        yield "label_key", "must only be set with USAGE_DIMENSION_LABEL"


CROSS_FIELD_RULES: Final[Mapping[str, tuple[CrossFieldRule, ...]]] = {
    "StreamTextRequest": (*_TEXT_RELATIONS, _going_on_needs_a_name),
    "GenerateTextRequest": _TEXT_RELATIONS,
    "GenerateVideoRequest": (_something_to_show,),
    "GenerateAudioRequest": (_something_to_hear,),
    "CheckSafetyRequest": (
        _exactly_one_set("content", "messages"),
        _only_content_has_role_and_context,
    ),
    "RunModelRequest": (_a_run_names_its_model,),
    "StreamModelRequest": (_a_run_names_its_model, _going_on_needs_a_name),
    "EstimateCostRequest": (_oneof_set("request"),),
    "UploadMediaRequest": (_oneof_set("content"),),
    "ReadMediaRequest": (_oneof_set("source"),),
    "MediaInput": (_oneof_set("source"),),
    "ChatPart": (_oneof_set("part"),),
    "ChatMessage": (_only_tools_answer_calls,),
    "ResponseFormat": (_only_a_schema_has_a_schema,),
    "ToolChoice": (_only_a_named_tool_has_a_name,),
    "GenerationOptions": (_who_may_pay_twice_bounds_the_cost,),
    "FallbackPolicy": (_only_a_list_has_models,),
    "GenerationFilter": (_what_was_created_after_comes_before,),
    "UsageFilter": (_a_time_begins_before_it_ends,),
    "GetUsageRequest": (_only_labels_have_a_key,),
}
"""Message name (without the package), then what must hold between its fields."""
FieldRules = Mapping[str, Mapping[str, Constraint]]
"""Message name (without the package), then field name, then what its value must satisfy."""
_DAY: Final = 86_400
MAX_INLINE_MEDIA_BYTES: Final = 3 * 1024 * 1024
"""The most bytes of an inline medium. Larger ones are MEDIA_TOO_LARGE."""
_NOT_NEGATIVE: Final = NumberRange(0)
_PROMPT: Final = TextLength(1, 100_000, words=True)
_LONG: Final = TextLength(0, 100_000)
_GUIDANCE: Final = NumberRange(0, 100)
_UNIT: Final = NumberRange(0, 1)
_RANDOMNESS: Final = NumberRange(0, 2)
_LENGTH: Final = DurationRange(0, 600, exclude_low=True)
_SIDE: Final = NumberRange(16, 8_192)
_MEDIA: Final = MaxItems(16)
_ASPECT_RATIO: Final = Pattern(
    r"([1-9]\d?|100):([1-9]\d?|100)", 'two whole numbers from 1 to 100, for example "16:9"'
)
_UUID: Final = Pattern(
    r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}",
    "a UUID: 32 hexadecimal digits, bare or as 8-4-4-4-12",
)
_MEDIA_TYPE: Final = Pattern(r"[\w!#$&^.+-]{1,63}/[\w!#$&^.+-]{1,63}", "an IANA media type")
_SHA256: Final = Pattern(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
_ID: Final = TextLength(0, 200)
"""Of a generation, an upload, a tenant, a key, a webhook: all of ours are far shorter."""
_MODEL: Final = TextLength(0, 400)
_MODELS: Final = MaxItems(64, TextLength(1, 400))
_WAIT: Final = DurationRange(0, _DAY)
_BILLABLE: Final[Mapping[str, Constraint]] = {"request_id": _UUID, "wait": _WAIT}
_TEXT_FIELDS: Final[Mapping[str, Constraint]] = {
    "request_id": _UUID,
    "prompt": TextLength(1, 1_000_000, words=True),
    "system_prompt": TextLength(0, 1_000_000),
    "messages": MaxItems(1_000),
    "max_output_tokens": NumberRange(1),
    "temperature": _RANDOMNESS,
    "top_p": _UNIT,
    "top_k": _NOT_NEGATIVE,
    "stop_sequences": MaxItems(16, TextLength(1, 256)),
    "seed": _NOT_NEGATIVE,
    "tools": MaxItems(128),
}
_MODEL_INPUTS: Final = MaxItems(256)
_RUN: Final[Mapping[str, Constraint]] = {
    "request_id": _UUID,
    "input": _MODEL_INPUTS,
    "model": TextLength(1, 400),
    "media": MaxItems(64),
}
_OPTIONS: Final[Mapping[str, Constraint]] = {
    "model": _MODEL,
    "timeout": DurationRange(0, _DAY, exclude_low=True),
    "max_cost_usd_nanos": _NOT_NEGATIVE,
    "disconnect_grace": DurationRange(0, 300),
    "labels": Labels(),
    "reuse_within": DurationRange(0, None),
    "model_parameters": _MODEL_INPUTS,
}
_PAGE: Final[Mapping[str, Constraint]] = {
    "page_size": _NOT_NEGATIVE,
    "page_token": TextLength(0, 1_000),
}


def field_rules(
    *,
    allow_http_loopback: bool = False,
    webhooks: EgressPolicy = EgressPolicy(),  # noqa: B008 - never changes
) -> FieldRules:
    """Field rules by message and field.

    With `allow_http_loopback` a medium may also be at plain http on this machine.
    `webhooks` is where callers may have webhooks sent to.
    """
    return {
        **_FIXED,
        "MediaInput": {
            "uri": HttpsUrl(loopback=allow_http_loopback, public=True),
            "upload_id": _ID,
        },
        "GenerationOptions": {**_OPTIONS, "webhook_url": WebhookUrlConstraint(webhooks)},
    }


_FIXED: Final[FieldRules] = {
    "FallbackPolicy": {"models": MaxItems(8, TextLength(1, 400))},
    "InlineMedia": {"data": FileSize(MAX_INLINE_MEDIA_BYTES), "media_type": _MEDIA_TYPE},
    "OutputRef": {"generation_id": _ID, "index": _NOT_NEGATIVE},
    "DocumentRef": {"generation_id": _ID},
    "Size": {"width": _SIDE, "height": _SIDE},
    "StreamTextRequest": {**_TEXT_FIELDS, "after_sequence": _NOT_NEGATIVE},
    "GenerateTextRequest": {**_TEXT_FIELDS, "wait": _WAIT},
    "ChatPart": {"text": TextLength(1, 1_000_000)},
    "ChatMessage": {"parts": MaxItems(1_000), "tool_calls": MaxItems(128), "tool_call_id": _ID},
    "ToolCall": {"id": _ID, "name": _ID},
    "ToolChoice": {"name": _ID},
    "Tool": {
        "name": Pattern(r"[a-zA-Z0-9_-]{1,64}", "1 to 64 of [a-zA-Z0-9_-]"),
        "description": TextLength(0, 10_000),
    },
    "GenerateImageRequest": {
        **_BILLABLE,
        "prompt": _PROMPT,
        "negative_prompt": _LONG,
        "aspect_ratio": _ASPECT_RATIO,
        "megapixels": NumberRange(0, 64, exclude_low=True),
        "count": NumberRange(1, 16),
        "seed": _NOT_NEGATIVE,
        "guidance_scale": _GUIDANCE,
        "steps": NumberRange(1, 1_000),
        "reference_images": _MEDIA,
        "strength": _UNIT,
        "loras": MaxItems(8),
    },
    "Lora": {"uri": HttpsUrl(or_name=True, public=True), "scale": NumberRange(-10, 10)},
    "GenerateVideoRequest": {
        **_BILLABLE,
        "prompt": _PROMPT,
        "negative_prompt": _LONG,
        "reference_images": _MEDIA,
        "duration": _LENGTH,
        "fps": NumberRange(1, 120),
        "aspect_ratio": _ASPECT_RATIO,
        "resolution": Pattern(r"\d{3,4}p|4k", 'like "720p": 3 or 4 digits and "p", or "4k"'),
        "guidance_scale": _GUIDANCE,
        "motion_strength": _UNIT,
        "seed": _NOT_NEGATIVE,
    },
    "GenerateAudioRequest": {
        **_BILLABLE,
        "prompt": _PROMPT,
        "text": _PROMPT,
        "lyrics": _LONG,
        "voice": TextLength(0, 256),
        "language": TextLength(0, 64),
        "speed": NumberRange(0.25, 4),
        "duration": _LENGTH,
        "temperature": _RANDOMNESS,
        "top_k": _NOT_NEGATIVE,
        "top_p": _UNIT,
        "guidance_scale": _GUIDANCE,
        "seed": _NOT_NEGATIVE,
    },
    "CheckSafetyRequest": {
        **_BILLABLE,
        "content": TextLength(1, 100_000, words=True),
        "messages": MaxItems(1_000),
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
    "GenerationFilter": {"states": MaxItems(32), "models": _MODELS, "labels": Labels()},
    "ListGenerationsRequest": _PAGE,
    "ListModelsRequest": _PAGE,
    "GetModelRequest": {"model": _MODEL},
    "UsageFilter": {"tenant": _ID, "models": _MODELS, "labels": Labels()},
    "GetUsageRequest": {
        "group_by": MaxItems(
            3, OneOf(UsageDimension.values()[1:], "a dimension that the contract knows")
        ),
        "label_key": Pattern(tenants.LABEL_KEY_PATTERN, tenants.LABEL_KEY_RULE),
    },
    "ListChargesRequest": _PAGE,
    "GetReconciliationRequest": {"page_size": _NOT_NEGATIVE},
    "ListTenantsRequest": _PAGE,
    "GetTenantRequest": {"id": _ID},
    "OverrideBudgetRequest": {"tenant": _ID, "budget": _ID, "limit_usd_nanos": _NOT_NEGATIVE},
    "CreateKeyRequest": {
        "tenant": _ID,
        "scopes": MaxItems(16, _ID),
        "description": TextLength(0, 200),
    },
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
