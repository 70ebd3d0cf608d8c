"""The tables against the contract, and random requests of every type against the tables."""

import re
from random import Random
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1 import (
    admin_pb2,
    audio_pb2,
    generations_pb2,
    image_pb2,
    media_pb2,
    medium_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    usage_pb2,
    video_pb2,
)
from mediagate.v1.generation_pb2 import ToolCall
from mediagate.v1.options_pb2 import GenerationOptions
from mediagate_server.api.interceptors.request_validation import ValidationInterceptor
from mediagate_server.api.service_registration import UNIMPLEMENTED_METHODS
from mediagate_server.api.validation.field_type_checks import (
    UNIMPLEMENTED_FIELDS,
    UNIMPLEMENTED_VALUES,
)
from mediagate_server.api.validation.rules import CROSS_FIELD_RULES, field_rules
from mediagate_server.errors import Failure, MediagateError, Reason
from tests.random_messages import RandomMessages

from .random_requests import messages

FILES = (
    admin_pb2,
    audio_pb2,
    generations_pb2,
    image_pb2,
    media_pb2,
    medium_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    usage_pb2,
    video_pb2,
)
DESCRIPTORS = (
    {
        name: descriptor
        for file in FILES
        for name, descriptor in file.DESCRIPTOR.message_types_by_name.items()
    }
    | {"GenerationOptions": GenerationOptions.DESCRIPTOR, "ToolCall": ToolCall.DESCRIPTOR}
    | {"FallbackPolicy": GenerationOptions.DESCRIPTOR.fields_by_name["fallback"].message_type}
)
REQUESTS = sorted(name for name in DESCRIPTORS if name.endswith("Request"))
STEP = re.compile(r'([a-z_0-9]+)(?:\[(?:(\d+)|"((?:[^"\\]|\\.)*)")\])?')


def test_the_rule_tables_match_the_contract() -> None:
    """Every message, field, enum value and rpc that a table names is in the contract."""
    for name, fields in field_rules().items():
        assert set(fields) <= set(DESCRIPTORS[name].fields_by_name), name
    assert set(CROSS_FIELD_RULES) <= set(DESCRIPTORS)
    pool = descriptor_pool.Default()
    for full_name, names in UNIMPLEMENTED_FIELDS.items():
        assert set(names) <= set(pool.FindMessageTypeByName(full_name).fields_by_name)
    for full_name, names in UNIMPLEMENTED_VALUES.items():
        assert set(names) <= set(pool.FindEnumTypeByName(full_name).values_by_name)
    for path in UNIMPLEMENTED_METHODS:
        service, name = path.strip("/").split("/")
        assert name in pool.FindServiceByName(service).methods_by_name


def test_every_request_type_is_covered() -> None:
    """The random requests below are of all types that the contract has."""
    assert len(REQUESTS) == 32


@given(st.sampled_from(REQUESTS).flatmap(lambda name: messages(DESCRIPTORS[name])))
def test_random_requests_are_accepted_or_refused(request_: Message) -> None:
    """Whatever is sent, it passes or is refused; every path leads to something in the request."""
    failure = refused(request_)
    if failure is not None:
        assert failure.reason is not Reason.INTERNAL
        for violation in failure.violations:
            assert violation.description
            assert leads_somewhere(request_, violation.field), violation


def test_boundary_values_are_accepted_or_refused(seed: int) -> None:
    """The same of messages that hold what is at and over the edges of every type."""
    random_messages = RandomMessages(Random(seed), {})
    for name in REQUESTS:
        for _ in range(100):
            failure = refused(random_messages.message(DESCRIPTORS[name]))
            assert failure is None or failure.reason is not Reason.INTERNAL


def refused(request: Message) -> Failure | None:
    """What a request is refused with, if it is."""
    try:
        ValidationInterceptor().check(request)
    except MediagateError as error:
        return error.failure
    return None


def leads_somewhere(message: Any, path: str) -> bool:
    """Whether a path names a field that the message's type has, through entries it really has."""
    if path == "request":
        return True
    at = 0
    while at < len(path):
        step = STEP.match(path, at)
        if step is None or not hasattr(message, "DESCRIPTOR"):
            return False
        name, index, key = step.groups()
        if name not in message.DESCRIPTOR.fields_by_name:
            return False
        message = getattr(message, name)
        if isinstance(message, Struct):
            # Below it stand the caller's own keys, whatever they look like.
            return True
        if index is not None:
            message = message[int(index)]
        elif key is not None:
            if len(key) >= 64 or "\\" in key:
                return True
            message = message[key]
        at = step.end() + 1
    return True
