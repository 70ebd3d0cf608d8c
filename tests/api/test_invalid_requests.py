"""Bad requests through the wire: the status names the field, and no handler ever runs."""

import json
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details

from mediagate.v1 import medium_pb2, text_pb2_grpc
from mediagate_server.api.validation import validator
from mediagate_server.errors import StoreUnavailable
from tests.builders import chat_message, stream_text_request, text_request
from tests.grpc_errors import detail_of, reason_of, rpc_error, violations_of

from .conftest import InterceptorServer, Start
from .fake_servicers import Texts


async def refusal(server: InterceptorServer, request: Message) -> grpc.aio.AioRpcError:
    """The error that the request's own rpc ends with."""
    name = type(request).__name__.removesuffix("Request")
    method = getattr(text_pb2_grpc.TextServiceStub(server.channel), name)
    return await rpc_error(method(request))


async def test_an_invalid_field(start: Start) -> None:
    """INVALID_ARGUMENT, INVALID_REQUEST, every field named; unary and streamed."""
    servicer = Texts()
    server = await start(servicer)
    for request in (
        text_request(prompt="", temperature=9.0),
        stream_text_request(prompt="", temperature=9.0),
    ):
        error = await refusal(server, request)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(error) == "INVALID_REQUEST"
        assert set(violations_of(error)) == {"prompt", "temperature"}
    assert not servicer.prompts


async def test_more_violations_than_a_status_holds(start: Start) -> None:
    """A thousand bad turns still end in a status that arrives."""
    server = await start(Texts())
    error = await refusal(server, text_request(messages=[chat_message(text="")] * 1_000))
    assert reason_of(error) == "INVALID_REQUEST"
    assert "messages[0].parts[0].text" in violations_of(error)


async def test_a_large_inline_medium(start: Start) -> None:
    """3.5 MiB of picture: MEDIA_TOO_LARGE, the field named."""
    server = await start(Texts())
    medium = medium_pb2.MediaInput(inline=medium_pb2.InlineMedia(data=b"x" * 3_670_016))
    error = await refusal(server, text_request(messages=[chat_message(image=medium)]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "MEDIA_TOO_LARGE"
    assert list(violations_of(error)) == ["messages[0].parts[0].image.inline.data"]


async def test_an_unimplemented_field(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNIMPLEMENTED, NOT_IMPLEMENTED, the field named. There is none now, so one is made up."""
    not_built = {"mediagate.v1.GenerationOptions": ("reuse_within",)}
    monkeypatch.setattr(validator, "UNIMPLEMENTED_FIELDS", not_built)
    servicer = Texts()
    server = await start(servicer)
    error = await refusal(server, stream_text_request(reuse_within=Duration(seconds=60)))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
    info: Any = detail_of(error, details.ErrorInfo)
    assert info.metadata["field"] == "options.reuse_within"
    error = await refusal(server, text_request(reuse_within=Duration(seconds=60)))
    assert list(violations_of(error)) == ["options.reuse_within"]
    assert not servicer.prompts


class Unsteady(Texts):
    """Not available the first time."""

    def __init__(self) -> None:
        super().__init__(before=self._fail_once)

    def _fail_once(self) -> None:
        if len(self.prompts) == 1:
            raise StoreUnavailable("not now")


RETRYING = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.05s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


async def test_a_billable_call_retried_by_grpc(start: Start) -> None:
    """Without a request_id it could be paid twice, and is refused; with one it goes through."""
    servicer = Unsteady()
    server = await start(servicer)
    options = [("grpc.service_config", RETRYING)]
    async with grpc.aio.insecure_channel(server.address, options) as channel:
        stub: Any = text_pb2_grpc.TextServiceStub(channel)
        error = await rpc_error(stub.GenerateText(text_request()))
        assert list(violations_of(error)) == ["request_id"]
        assert len(servicer.prompts) == 1
        servicer.prompts.clear()
        await stub.GenerateText(text_request(request_id="0" * 32))
        assert len(servicer.prompts) == 2
