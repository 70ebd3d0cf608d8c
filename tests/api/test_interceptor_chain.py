"""Every kind and style of handler goes through the chain and comes out the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from structlog.testing import capture_logs

from mediagate.v1 import media_pb2, media_pb2_grpc, models_pb2_grpc, text_pb2, text_pb2_grpc
from mediagate.v1.models_pb2 import EstimateCostRequest, GetModelRequest
from tests.builders import stream_text_request, text_request
from tests.grpc_errors import detail_of, reason_of, rpc_error, upload_error, violations_of

from .conftest import InterceptorServer, Start
from .fake_servicers import EndlessTexts, Texts, Uploads, WrittenTexts, both_ways

PROMPT = "a prompt that nobody else may read"


def texts(server: InterceptorServer) -> Any:
    """The text service, as callers see it."""
    return text_pb2_grpc.TextServiceStub(server.channel)


def ask(**more: Any) -> text_pb2.StreamTextRequest:
    """A good request."""
    return stream_text_request(prompt=PROMPT, **more)


def generate_request(**more: Any) -> text_pb2.GenerateTextRequest:
    """A good request."""
    return text_request(prompt=PROMPT, **more)


async def uploads(*chunks: bytes) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    """An upload in chunks."""
    for chunk in chunks:
        yield media_pb2.UploadMediaRequest(chunk=chunk)


async def test_unary_calls(start: Start) -> None:
    """One request, one reply; the caller is bound and the request arrives whole."""
    servicer = Texts()
    server = await start(servicer)
    reply = await texts(server).GenerateText(generate_request(options={"labels": {"team": "a"}}))
    assert reply.replayed
    assert (servicer.tenants, servicer.prompts) == (["local"], [PROMPT])
    assert servicer.labels == [{"team": "a"}]


async def test_stream_by_a_generator(start: Start) -> None:
    """Replies of a generator arrive in order; it sees the caller and the receipt, too."""
    servicer = Texts()
    server = await start(servicer)
    events = [event.delta.text async for event in texts(server).StreamText(ask())]
    assert events == ["0", "1", "2", "3", "4"]
    assert servicer.tenants == ["local"]


async def test_stream_by_writing(start: Start) -> None:
    """A coroutine that writes to its context works just as well."""
    server = await start(WrittenTexts())
    assert [event.delta.text async for event in texts(server).StreamText(ask())] == ["0", "1", "2"]


async def test_request_streams(start: Start) -> None:
    """Each message of a request stream is read, and checked as it comes."""
    server = await start(Uploads())
    media: Any = media_pb2_grpc.MediaServiceStub(server.channel)
    reply = await media.UploadMedia(uploads(b"12", b"345"))
    assert reply.size_bytes == 5
    error = await upload_error(media.UploadMedia, lambda: uploads(b"12", b""))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert list(violations_of(error)) == ["chunk"]


async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Gives back what comes, as a generator."""
    async for request in requests:
        yield request


async def written_echo(requests: Any, context: Any) -> None:
    """Gives back what comes, by reading and writing."""
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(request)


@pytest.mark.parametrize("behaviour", [echo, written_echo])
async def test_bidirectional_streams(start: Start, behaviour: Any) -> None:
    """Requests and replies that both stream, in both styles."""
    server = await start(handlers=(both_ways("/test.Echo/Both", behaviour),))
    call: Any = server.channel.stream_stream("/test.Echo/Both")

    async def words() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    assert [reply async for reply in call(words())] == [b"a", b"b"]


async def test_a_request_stream_left_unread(start: Start) -> None:
    """A handler that answers before it has read everything leaves nothing behind."""

    async def first(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            return

    server = await start(handlers=(both_ways("/test.Echo/Both", first),))
    call: Any = server.channel.stream_stream("/test.Echo/Both")

    async def words() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    assert [reply async for reply in call(words())] == [b"a"]
    await server.observe.wait_until_idle()


async def test_cancelling_closes_a_waiting_generator(start: Start) -> None:
    """A caller that leaves while the generator waits ends it at once, by CancelledError."""
    servicer = EndlessTexts(pause=asyncio.Event())
    server = await start(servicer)
    call = texts(server).StreamText(ask())
    await call.read()
    await servicer.begun.wait()
    call.cancel()
    await servicer.ended.wait()
    assert servicer.ended_by is asyncio.CancelledError
    await server.observe.wait_until_idle()


async def test_cancelling_closes_a_writing_generator(start: Start) -> None:
    """A caller that leaves while a write waits for him ends the generator at once, too."""
    servicer = EndlessTexts(text="word" * 16_384)
    server = await start(servicer)
    call = texts(server).StreamText(ask())
    await call.read()
    await servicer.begun.wait()
    call.cancel()
    await server.observe.wait_until_idle()
    assert servicer.ended.is_set(), "the generator outlived its call"
    assert servicer.ended_by in (GeneratorExit, asyncio.CancelledError)


async def test_a_connection_that_breaks_closes_the_generator(start: Start) -> None:
    """So does a connection that goes away under a stream."""
    servicer = EndlessTexts(text="word" * 16_384)
    server = await start(servicer)
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: Any = text_pb2_grpc.TextServiceStub(channel).StreamText(ask())
        await call.read()
        await servicer.begun.wait()
    await server.observe.wait_until_idle()
    assert servicer.ended.is_set(), "the generator outlived its call"


async def test_a_cancelled_unary_call_ends_its_handler(start: Start) -> None:
    """CancelledError reaches the handler and is never swallowed on its way out."""
    servicer = EndlessTexts()
    server = await start(servicer)
    call = texts(server).GenerateText(generate_request())
    await servicer.begun.wait()
    call.cancel()
    await servicer.ended.wait()
    assert servicer.ended_by is asyncio.CancelledError


async def test_an_unimplemented_method(start: Start) -> None:
    """The generated base class behind a method, or a set that names it, is NOT_IMPLEMENTED."""

    class Models(models_pb2_grpc.ModelServiceServicer):
        pass

    server = await start(Models(), not_built=("/mediagate.v1.ModelService/GetModel",))  # type: ignore[abstract]
    models: Any = models_pb2_grpc.ModelServiceStub(server.channel)
    for call in (models.EstimateCost(EstimateCostRequest()), models.GetModel(GetModelRequest())):
        error = await rpc_error(call)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert reason_of(error) == "NOT_IMPLEMENTED"


async def test_services_without_a_servicer(start: Start) -> None:
    """All rpcs in the set of unbuilt ones answer so, whatever their kind, with none registered."""
    server = await start(
        not_built=(
            "/mediagate.v1.MediaService/UploadMedia",
            "/mediagate.v1.MediaService/ReadMedia",
        )
    )
    media: Any = media_pb2_grpc.MediaServiceStub(server.channel)
    request = media_pb2.ReadMediaRequest()
    for call in (media.UploadMedia(uploads(b"1")), media.ReadMedia(request)):
        assert reason_of(await rpc_error(call)) == "NOT_IMPLEMENTED"


async def test_an_unknown_method(start: Start) -> None:
    """It is named in the status, and is not remembered."""
    server = await start(Texts())
    channel: Any = server.channel
    for call in (
        channel.unary_unary("/mediagate.v9.Nothing/At")(b""),
        channel.unary_stream("/mediagate.v1.TextService/Sing")(b""),
    ):
        error = await rpc_error(call)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        info: Any = detail_of(error, details.ErrorInfo)
        assert info.metadata["method"].startswith("/mediagate.v")


async def test_malformed_request_bytes(start: Start) -> None:
    """They are refused like any other bad request, and not with a parser's words."""
    servicer = Texts()
    server = await start(servicer)
    call: Any = server.channel.unary_unary("/mediagate.v1.TextService/GenerateText")
    with capture_logs() as lines:
        error = await rpc_error(call(b"\xff\xff\xff"))
        await server.observe.wait_until_idle()
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert list(violations_of(error)) == ["request"]
    assert not servicer.prompts
    assert [line["code"] for line in lines] == ["INVALID_ARGUMENT"]
