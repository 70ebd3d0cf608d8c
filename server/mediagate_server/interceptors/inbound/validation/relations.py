"""What a message must be as a whole: rules between its fields."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mediagate.v1.options_pb2 import WHEN_UNCONFIRMED_NEXT, FallbackPolicy
from mediagate.v1.text_pb2 import ChatMessage, ResponseFormat, ToolChoice
from mediagate.v1.usage_pb2 import USAGE_DIMENSION_LABEL

Broken = Iterator[tuple[str, str]]
"""Which field (empty: the message itself) and what is wrong."""

Relation = Callable[[Any], Broken]


def _exactly_one(first: str, second: str) -> Relation:
    """Exactly one of two fields without presence must be there."""

    def check(message: Any) -> Broken:
        there = bool(getattr(message, first)), bool(getattr(message, second))
        if there == (False, False):
            yield first, f"must be set, or {second}"
        elif there == (True, True):
            yield first, f"must not be set together with {second}"

    return check


def _one_is_set(oneof: str) -> Relation:
    """The oneof must hold something."""

    def check(message: Any) -> Broken:
        if message.WhichOneof(oneof) is None:
            yield "", f"must have a {oneof}"

    return check


def _last_turn_is_not_the_models(message: Any) -> Broken:
    turns = message.messages
    if turns and turns[-1].role == ChatMessage.ROLE_ASSISTANT:
        yield f"messages[{len(turns) - 1}].role", "must not be ROLE_ASSISTANT in the last turn"


def _a_choice_needs_tools(message: Any) -> Broken:
    if message.HasField("tool_choice") and not message.tools:
        yield "tool_choice", "must only be set with tools"


def _going_on_needs_a_name(message: Any) -> Broken:
    if message.after_sequence > 0 and not message.request_id:
        yield "request_id", "must be set where after_sequence is"


def _only_tools_answer_calls(message: Any) -> Broken:
    if message.tool_call_id and message.role != ChatMessage.ROLE_TOOL:
        yield "tool_call_id", "must only be set with ROLE_TOOL"


def _only_a_schema_has_a_schema(message: Any) -> Broken:
    by_schema = message.kind == ResponseFormat.KIND_JSON_SCHEMA
    if message.HasField("json_schema") and not by_schema:
        yield "json_schema", "must only be set with KIND_JSON_SCHEMA"
    elif by_schema and not message.HasField("json_schema"):
        yield "json_schema", "must be set with KIND_JSON_SCHEMA"


def _only_a_named_tool_has_a_name(message: Any) -> Broken:
    if message.name and message.mode != ToolChoice.MODE_NAMED:
        yield "name", "must only be set with MODE_NAMED"


def _only_a_list_has_models(message: Any) -> Broken:
    if message.mode == FallbackPolicy.MODE_LIST:
        return
    if message.models:
        yield "models", "must only be set with MODE_LIST"
    if message.after_content_refusal:
        yield "after_content_refusal", "must only be set with MODE_LIST"


_VIDEO_SOURCES: Final = ("first_frame", "source_video")


def _something_to_show(message: Any) -> Broken:
    if message.prompt or message.reference_images:
        return
    if not any(message.HasField(source) for source in _VIDEO_SOURCES):
        yield "prompt", "must be set, or a picture or video to work from"


def _something_to_hear(message: Any) -> Broken:
    if message.prompt and message.text:
        yield "prompt", "must not be set together with text"
    elif not (message.prompt or message.text or message.lyrics.strip()):
        yield "prompt", "must be set, or text, or lyrics"


def _only_content_has_role_and_context(message: Any) -> Broken:
    if not message.messages:
        return
    if message.role:
        yield "role", "must not be set together with messages"
    if message.HasField("context"):
        yield "context", "must not be set together with messages"


def _a_run_names_its_model(message: Any) -> Broken:
    options = message.options
    if options.model:
        yield "options.model", "must not be set: the model is named in `model`"
    if options.quality:
        yield "options.quality", "must not be set: the model is named in `model`"
    if options.HasField("model_parameters"):
        yield "options.model_parameters", "must not be set: all inputs are in `input`"


def _who_may_pay_twice_bounds_the_cost(message: Any) -> Broken:
    is_next = message.when_unconfirmed == WHEN_UNCONFIRMED_NEXT
    if is_next and not message.HasField("max_cost_usd_nanos"):
        yield "when_unconfirmed", "must only be NEXT where max_cost_usd_nanos is set"


_TEXT: Final = (
    _exactly_one("prompt", "messages"),
    _last_turn_is_not_the_models,
    _a_choice_needs_tools,
)


def _a_time_begins_before_it_ends(message: Any) -> Broken:
    if not (message.HasField("start_time") and message.HasField("end_time")):
        return
    start, end = message.start_time, message.end_time
    if (start.seconds, start.nanos) >= (end.seconds, end.nanos):
        yield "end_time", "must be after start_time"


def _what_was_created_after_comes_before(message: Any) -> Broken:
    if not (message.HasField("created_after") and message.HasField("created_before")):
        return
    first, last = message.created_after, message.created_before
    if (first.seconds, first.nanos) >= (last.seconds, last.nanos):
        yield "created_before", "must be after created_after"


def _only_labels_have_a_key(message: Any) -> Broken:
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


RELATIONS: Final[Mapping[str, tuple[Relation, ...]]] = {
    "StreamTextRequest": (*_TEXT, _going_on_needs_a_name),
    "GenerateTextRequest": _TEXT,
    "GenerateVideoRequest": (_something_to_show,),
    "GenerateAudioRequest": (_something_to_hear,),
    "CheckSafetyRequest": (
        _exactly_one("content", "messages"),
        _only_content_has_role_and_context,
    ),
    "RunModelRequest": (_a_run_names_its_model,),
    "StreamModelRequest": (_a_run_names_its_model, _going_on_needs_a_name),
    "EstimateCostRequest": (_one_is_set("request"),),
    "UploadMediaRequest": (_one_is_set("content"),),
    "ReadMediaRequest": (_one_is_set("source"),),
    "MediaInput": (_one_is_set("source"),),
    "ChatPart": (_one_is_set("part"),),
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
