"""The standard health service (grpc.health.v1): SERVING until the server drains, then NOT_SERVING.

Our own, because grpc_health's holds a lock that all watchers of a name share while it writes to one
of them: a peer that reads nothing kept the others, and the drain, waiting for ever.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Status: Any = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no types
    """Health service: of the server as a whole, whose name is empty, and of each of `services`.

    A watcher waits for an event, and nobody waits for a watcher.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._names = frozenset(("", *services))
        self._shutdown = asyncio.Event()

    def enter_graceful_shutdown(self) -> None:
        """Report NOT_SERVING from now on. Waits for nobody."""
        self._shutdown.set()

    async def Check(self, request: Any, context: Context) -> Any:
        """The status of a service."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return self._status()

    async def Watch(self, request: Any, context: Context) -> None:
        """The status of a service, and again when it changes. Has no end of its own."""
        is_served = request.service in self._names
        del request  # A name that nobody knows may be long, and the call goes on.
        if is_served:
            ended = self._shutdown.is_set()
            await context.write(self._status())
            if not ended:
                await self._shutdown.wait()
                await context.write(self._status())
        else:
            await context.write(Status(status=Status.SERVICE_UNKNOWN))
        await asyncio.get_running_loop().create_future()  # Until the call is cancelled.

    def _status(self) -> Any:
        ended = self._shutdown.is_set()
        return Status(status=Status.NOT_SERVING if ended else Status.SERVING)
