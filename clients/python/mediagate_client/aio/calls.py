"""One rpc with all its tries, on asyncio. Knows no particular rpc."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from mediagate_client.backends import asynchronous as backend
from mediagate_client.channel import Metadata, check_request_size
from mediagate_client.error_mapping import from_rpc_error
from mediagate_client.errors import MediagateError
from mediagate_client.retry import Deadline, Retries, RetryPolicy

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class AsyncCalls:
    """What every call of one client shares."""

    metadata: Metadata
    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = backend.sleep
    draw: Callable[[], float] = random.random

    def deadline(self, seconds: float | None) -> Deadline:
        """Return the deadline that many seconds from now."""
        return Deadline.after(seconds, self.clock)

    def retries(self, deadline: Deadline) -> Retries:
        """Return a count of tries that ends at the deadline."""
        return Retries(self.policy, deadline, self.draw)

    async def once(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        seconds: float | None,
    ) -> Response:
        """Send the request once and return the answer, or raise the typed error.

        Cancelling the task cancels the rpc.
        """
        check_request_size(request)
        try:
            return await backend.call_unary(method, request, seconds, self.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    async def retried(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        deadline: Deadline,
    ) -> Response:
        """Send the request until it is answered or there is no use in trying.

        Only for requests that may be sent twice: reads, cancels, paid ones with a request_id.
        """
        retries = self.retries(deadline)
        while True:
            try:
                return await self.once(method, request, deadline.remaining())
            except MediagateError as failure:
                await self.pause(retries, failure)

    async def read(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        seconds: float,
    ) -> Response:
        """Send what only looks until it is answered, in so many seconds with all its tries."""
        return await self.retried(method, request, self.deadline(seconds))

    async def pause(self, retries: Retries, failure: MediagateError) -> None:
        """Sleep until the next try; raise the failure if there is none."""
        delay = retries.delay(failure)
        if delay is None:
            raise failure
        await self.sleep(delay)
