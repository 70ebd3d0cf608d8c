"""From Python values to fields of the contract's messages, by what the field is.

Knows the contract's descriptors, not its requests. What cannot be converted is refused here,
with the field named, before anything is sent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1.image_pb2 import Lora
from mediagate.v1.medium_pb2 import Size
from mediagate.v1.models_pb2 import RunModelMedia
from mediagate.v1.options_pb2 import FallbackPolicy
from mediagate.v1.text_pb2 import ResponseFormat, Tool, ToolChoice
from mediagate_client.errors import MediagateError, local_invalid_request, unknown_argument
from mediagate_client.media_inputs import MediaSource, media_input

MessageType = TypeVar("MessageType", bound=Message)


def build(kind: type[MessageType], /, **arguments: object) -> MessageType:
    """Return a message of these fields; errors are those of `fill`."""
    message = kind()
    fill(message, arguments)
    return message


def fill(message: Message, arguments: Mapping[str, object]) -> None:
    """Set the fields of `message` that `arguments` name; None leaves a field as it is.

    Raises InvalidRequest, the field named, for a value that does not fit or for two members of
    one oneof, and UnknownArgument for a name that is none.
    """
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in arguments.items():
        if value is None:
            continue
        if name not in fields:
            kind = message.DESCRIPTOR.name
            raise unknown_argument(name, f"{kind} has no such field")
        field = cast("FieldDescriptor", fields[name])
        _refuse_second_choice(message, field)
        try:
            _put(message, field, value)
        except MediagateError:
            raise
        except RecursionError as error:
            raise local_invalid_request(name, "is nested too deep") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise local_invalid_request(name, str(error)) from error


def _refuse_second_choice(message: Message, field: FieldDescriptor) -> None:
    oneof = field.containing_oneof
    # proto3 `optional` fields sit in oneofs of their own, with a single member.
    if oneof is None or len(oneof.fields) == 1:
        return
    chosen = message.WhichOneof(oneof.name)
    if chosen is not None and chosen != field.name:
        raise local_invalid_request(field.name, f"only one of {chosen} and {field.name} may be set")


def _put(message: Message, field: FieldDescriptor, value: object) -> None:
    """Set one field, whatever its kind."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _put_entries(getattr(message, field.name), field.message_type, value)
    elif field.is_repeated:
        if isinstance(value, (str, bytes, Path)) or not isinstance(value, Iterable):
            raise TypeError(f"expected a sequence, not {type(value).__name__}")
        getattr(message, field.name).extend([_convert(field, item) for item in value])
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_convert(field, value))
    else:
        setattr(message, field.name, _convert(field, value))


def _put_entries(target: Any, entry: Any, value: object) -> None:
    """Fill a map; its values are converted like any other where they are messages."""
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a mapping, not {type(value).__name__}")
    kind = entry.fields_by_name["value"]
    if kind.message_type is None:
        target.update(value)
        return
    for key, item in value.items():
        target[key].CopyFrom(_convert(kind, item))


def _convert(field: FieldDescriptor, value: object) -> Any:
    """Return `value` as something that protobuf accepts for the field."""
    if field.enum_type is not None:
        return enum_number(field.enum_type, value)
    if field.message_type is None:
        return value
    full_name = field.message_type.full_name
    if isinstance(value, Message) and value.DESCRIPTOR.full_name == full_name:
        return value
    if full_name == "mediagate.v1.MediaInput":
        return media_input(cast("MediaSource", value), field.name)
    converter = _CONVERTERS.get(full_name)
    if converter is None:
        raise TypeError(f"expected {field.message_type.name}, not {type(value).__name__}")
    return converter(value)


def enum_number(enum: EnumDescriptor, value: object) -> int:
    """Return the number of an enum's value: given as such, or as its name without the prefix."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # The value that is 0 is always <PREFIX>_UNSPECIFIED.
    prefix = str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")
    names = {str(v.name).removeprefix(prefix).lower(): int(v.number) for v in enum.values[1:]}
    if str(value).lower() not in names:
        raise ValueError(f"{value!r} is none of {', '.join(names)}")
    return names[str(value).lower()]


def duration(value: object) -> Duration:
    """Return a number of seconds or a timedelta as a Duration."""
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        raise TypeError(f"expected seconds or a timedelta, not {type(value).__name__}")
    result = Duration()
    span = value if isinstance(value, timedelta) else timedelta(seconds=value)
    result.FromTimedelta(span)
    return result


def seconds_of(value: float | timedelta | Duration | None, field: str) -> float | None:
    """Return a length of time in seconds. Raises InvalidRequest with the field for any other."""
    if value is None:
        return None
    try:
        span = value if isinstance(value, Duration) else duration(value)
        return span.ToTimedelta().total_seconds()
    except (TypeError, ValueError, OverflowError) as error:
        raise local_invalid_request(field, str(error)) from error


def timestamp(value: object) -> Timestamp:
    """Return a datetime as a Timestamp."""
    if not isinstance(value, datetime):
        raise TypeError(f"expected a datetime, not {type(value).__name__}")
    result = Timestamp()
    result.FromDatetime(value.astimezone())
    return result


def struct(value: object) -> Struct:
    """Return a mapping as a JSON object."""
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a mapping, not {type(value).__name__}")
    result = Struct()
    result.update(dict(value))
    return result


def size(value: object) -> Size:
    """Return (width, height) or "WIDTHxHEIGHT" as a Size."""
    if isinstance(value, str):
        width, cross, height = value.lower().partition("x")
        if not (cross and width.isdecimal() and height.isdecimal()):
            raise ValueError(f"{value!r} is not of the form 1024x768")
        return Size(width=int(width), height=int(height))
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError("expected (width, height)")
    return Size(width=value[0], height=value[1])


def fallback(value: object) -> FallbackPolicy:
    """Return "catalog", "none" or a list of models as a FallbackPolicy."""
    if isinstance(value, str):
        mode = enum_number(FallbackPolicy.Mode.DESCRIPTOR, value)
        return FallbackPolicy(mode=cast("FallbackPolicy.Mode.ValueType", mode))
    if not isinstance(value, Iterable):
        raise TypeError("expected 'catalog', 'none' or a list of models")
    return FallbackPolicy(mode=FallbackPolicy.MODE_LIST, models=list(value))


def response_format(value: object) -> ResponseFormat:
    """Return "text", "json" or a JSON Schema as a ResponseFormat."""
    if isinstance(value, str):
        kind = enum_number(ResponseFormat.Kind.DESCRIPTOR, value)
        return ResponseFormat(kind=cast("ResponseFormat.Kind.ValueType", kind))
    schema = value if isinstance(value, Struct) else struct(value)
    return ResponseFormat(kind=ResponseFormat.KIND_JSON_SCHEMA, json_schema=schema)


def tool(value: object) -> Tool:
    """Return a mapping with the fields of a Tool as one."""
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a Tool or a mapping, not {type(value).__name__}")
    result = Tool()
    fill(result, value)
    return result


def tool_choice(value: object) -> ToolChoice:
    """Return "auto", "none", "required", or a tool's name, as a ToolChoice."""
    modes = {
        "auto": ToolChoice.MODE_AUTO,
        "none": ToolChoice.MODE_NONE,
        "required": ToolChoice.MODE_REQUIRED,
    }
    if not isinstance(value, str):
        raise TypeError(f"expected a ToolChoice or a name, not {type(value).__name__}")
    if value in modes:
        return ToolChoice(mode=modes[value])
    return ToolChoice(mode=ToolChoice.MODE_NAMED, name=value)


def run_media(value: object) -> RunModelMedia:
    """Return a medium, or several, as the media of one input."""
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    sources = cast("Sequence[MediaSource]", value if several else [value])
    return RunModelMedia(media=[media_input(source, "media") for source in sources])


def lora(value: object) -> Lora:
    """Return an adapter's URI as a Lora of its default strength."""
    if not isinstance(value, str):
        raise TypeError(f"expected a Lora or its uri, not {type(value).__name__}")
    return Lora(uri=value)


_CONVERTERS: Final[Mapping[str, Callable[[object], Message]]] = {
    "google.protobuf.Duration": duration,
    "google.protobuf.Struct": struct,
    "google.protobuf.Timestamp": timestamp,
    "mediagate.v1.FallbackPolicy": fallback,
    "mediagate.v1.Lora": lora,
    "mediagate.v1.ResponseFormat": response_format,
    "mediagate.v1.RunModelMedia": run_media,
    "mediagate.v1.Size": size,
    "mediagate.v1.Tool": tool,
    "mediagate.v1.ToolChoice": tool_choice,
}
