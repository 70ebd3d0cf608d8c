"""Rpc calls with retries, on asyncio."""

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
    """Metadata, retry policy and clock of all calls of one client."""

    metadata: Metadata
    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = backend.sleep
    random_source: Callable[[], float] = random.random

    def deadline(self, seconds: float | None) -> Deadline:
        """Return the deadline in so many seconds; None: no deadline."""
        return Deadline.after(seconds, self.clock)

    def retries(self, deadline: Deadline) -> Retries:
        """Return the retry state of one call."""
        return Retries(self.policy, deadline, self.random_source)

    async def call_once(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        seconds: float | None,
    ) -> Response:
        """Send the request once; raise the typed error of a failure.

        Cancelling the task cancels the rpc.
        """
        check_request_size(request)
        try:
            return await backend.call_unary(method, request, seconds, self.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    async def call_with_retries(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        deadline: Deadline,
    ) -> Response:
        """Send the request until it succeeds, or may not be retried.

        Only for requests that may be sent twice: reads, cancels, billable ones with a request_id.
        """
        retries = self.retries(deadline)
        while True:
            try:
                return await self.call_once(method, request, deadline.remaining())
            except MediagateError as failure:
                await self.pause(retries, failure)

    async def read(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        seconds: float,
    ) -> Response:
        """Send a read with retries, in `seconds` altogether."""
        return await self.call_with_retries(method, request, self.deadline(seconds))

    async def pause(self, retries: Retries, failure: MediagateError) -> None:
        """Sleep until the next attempt; raise the failure if there is none."""
        delay = retries.delay(failure)
        if delay is None:
            raise failure
        await self.sleep(delay)
