"""Entries are counted in the encoded request as they would be found in the decoded one."""

import random
from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from mediagate.v1 import models_pb2, text_pb2, usage_pb2
from mediagate.v1.usage_pb2 import USAGE_DIMENSION_MODEL
from mediagate_server.api.validation import entry_limit
from mediagate_server.api.validation.entry_limit import (
    MAX_ENTRIES,
    MalformedMessage,
    find_oversized_field,
    request_type,
)
from tests.builders import run_model_request, text_request


def crowded(message: Message) -> str | None:
    """The field in which it comes to hold too many."""
    return find_oversized_field(message.SerializeToString(), cast("Descriptor", message.DESCRIPTOR))


def entries(message: Any) -> int:
    """Counted by looking at all of a decoded message."""
    count = 0
    for field, value in message.ListFields():
        if not field.is_repeated:
            count += entries(value) if field.message_type else 0
            continue
        count += len(value)
        if field.message_type and field.message_type.GetOptions().map_entry:
            items = [value[key] for key in value]
            holds_messages = field.message_type.fields_by_name["value"].message_type
        else:
            items, holds_messages = value, field.message_type
        count += sum(map(entries, items)) if holds_messages else 0
    return count


def random_json(rng: random.Random, levels: int) -> Any:
    """A JSON value."""
    kind = rng.choice(["list", "dict", "text", "number", "null"]) if levels else "number"
    if kind == "list":
        return [random_json(rng, levels - 1) for _ in range(rng.randrange(12))]
    if kind == "dict":
        size = rng.randrange(12)
        return {f"k{n}" * rng.randrange(1, 9): random_json(rng, levels - 1) for n in range(size)}
    return {"text": "x" * rng.randrange(400), "number": rng.random(), "null": None}[kind]


def random_run(rng: random.Random) -> models_pb2.RunModelRequest:
    """A run with inputs of any form."""
    request = run_model_request("acme/any")
    request.options.labels.update({f"k{n}": "v" for n in range(rng.randrange(16))})
    size = rng.randrange(1, 12)
    request.input.update({f"input{n}": random_json(rng, 3) for n in range(size)})
    for name in range(rng.randrange(4)):
        for _ in range(rng.randrange(3)):
            request.media[f"m{name}"].media.add(uri="https://example.com/a.png")
    return request


def test_entries_are_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any request passes a limit of as many entries as it has, and none of one less."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(60):
        request = random_run(rng)
        count = entries(request)
        for limit, expected in ((count, False), (count - 1, True)):
            monkeypatch.setattr(entry_limit, "MAX_ENTRIES", limit)
            assert bool(crowded(request)) is expected, (count, limit)


def test_malformed_messages_are_refused() -> None:
    """Bytes that are no message are refused here, or by decoding after it."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    request = random_run(rng)
    request.input.update({"padding": "x" * MAX_ENTRIES})
    serialized = request.SerializeToString()
    kind = models_pb2.RunModelRequest
    for _ in range(1_000):
        raw = bytearray(serialized)
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(min(len(raw), 4_000))] = rng.randrange(256)
        try:
            find_oversized_field(bytes(raw), kind.DESCRIPTOR)
        except MalformedMessage:
            with pytest.raises(DecodeError):
                kind.FromString(bytes(raw))


@pytest.mark.parametrize(
    ("number", "name"),
    [(MAX_ENTRIES, None), (MAX_ENTRIES + 1, "messages")],
)
def test_the_limit_counts_all_fields_together(number: int, name: str | None) -> None:
    """All lists count together, and the first field past the limit is named."""
    request = text_pb2.GenerateTextRequest()
    turn = request.messages.add(role=text_pb2.ChatMessage.ROLE_USER)
    for _ in range(number - 1):
        turn.parts.add(text="x")
    assert crowded(request) == name


def test_short_messages_are_not_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry takes two bytes at least; where some may be packed, one."""
    monkeypatch.setattr(entry_limit._EntryCounter, "oversized_field", lambda *_: "looked at")
    most = 2 * MAX_ENTRIES
    for kind in (text_pb2.GenerateTextRequest, models_pb2.RunModelRequest):
        descriptor: Descriptor = kind.DESCRIPTOR
        assert find_oversized_field(bytes(most), descriptor) is None
        assert find_oversized_field(bytes(most + 1), descriptor) == "looked at"
    packed: Descriptor = usage_pb2.GetUsageRequest.DESCRIPTOR
    assert find_oversized_field(bytes(MAX_ENTRIES), packed) is None
    assert find_oversized_field(bytes(MAX_ENTRIES + 1), packed) == "looked at"


def test_packed_numbers_are_one_field() -> None:
    """A list of numbers is one field on the wire."""
    assert (
        crowded(usage_pb2.GetUsageRequest(group_by=[USAGE_DIMENSION_MODEL] * MAX_ENTRIES)) is None
    )
    assert (
        crowded(usage_pb2.GetUsageRequest(group_by=[USAGE_DIMENSION_MODEL] * (MAX_ENTRIES + 1)))
        == "group_by"
    )


def test_a_long_text_is_one_field() -> None:
    """However long it is."""
    assert crowded(text_request(prompt="x" * 1_000_000)) is None


def test_request_types() -> None:
    """By the method's name, as gRPC routes it."""
    kind = request_type("mediagate.v1.ModelService", "RunModel")
    assert kind is models_pb2.RunModelRequest.DESCRIPTOR
    assert request_type("mediagate.v1.ModelService", "Nothing") is None
    assert request_type("no.Service", "RunModel") is None
