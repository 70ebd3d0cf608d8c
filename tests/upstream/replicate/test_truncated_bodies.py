"""Bodies that break off: what came whole counts, although the transfer did not end as it should."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from mediagate_server.upstream.port import NoResponse, RequestRefused
from mediagate_server.upstream.replicate.http_exchange import ResponseTransport
from mediagate_server.upstream.replicate.large_responses import LargeResponses
from mediagate_server.workers.worker_pool import WorkerPool


class Breaking(httpx.AsyncByteStream):
    """Gives its chunks, then fails."""

    def __init__(self, *chunks: bytes, failure: Exception) -> None:
        self.chunks = chunks
        self.failure = failure
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        raise self.failure

    async def aclose(self) -> None:
        self.closed = True


class Inner(httpx.AsyncBaseTransport):
    """Answers with one status and body."""

    def __init__(self, status: int, stream: httpx.AsyncByteStream) -> None:
        self.status = status
        self.stream = stream

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(self.status, stream=self.stream)


@pytest.fixture
def large(tmp_path: Path) -> LargeResponses:
    """Where what is large would lie."""
    return LargeResponses(tmp_path / "bodies", WorkerPool())


POST = httpx.Request("POST", "http://127.0.0.1/v1/predictions")
FAILURES = [httpx.ReadError("reset"), aiohttp.ClientPayloadError("short"), ConnectionResetError()]


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_truncated_body_is_passed_on(failure: Exception, large: LargeResponses) -> None:
    """JSON says itself whether it is whole: an id that was read is no doubt any more."""
    stream = Breaking(b'{"id":', b'"p1"}', failure=failure)
    answer = await ResponseTransport(Inner(201, stream), large=large).handle_async_request(POST)
    assert answer.content == b'{"id":"p1"}'
    assert stream.closed


@pytest.mark.parametrize("failure", FAILURES)
async def test_an_empty_body(failure: Exception, large: LargeResponses) -> None:
    """A success without a byte of body is a doubt; a refusal needs no body."""
    stream = Breaking(failure=failure)
    with pytest.raises(NoResponse):
        await ResponseTransport(Inner(201, stream), large=large).handle_async_request(POST)
    assert stream.closed
    with pytest.raises(RequestRefused):
        await ResponseTransport(Inner(404, stream), large=large).handle_async_request(POST)
