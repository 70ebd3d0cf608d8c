"""One tenant's receivers, however slow, keep no other tenant's webhooks waiting."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from mediagate_server import rpc_context
from mediagate_server.errors import ResourceNotFound
from mediagate_server.rpc_context import Caller
from mediagate_server.store.outbox import DeliverySlots, OutboxEvent
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.webhooks.http_client import WebhookHttpClient
from tests.store.records import NOON

from .ended_generations import deliver_end
from .manual_clock_dispatcher import LOOPBACK, ManualDispatcherClock, playing
from .webhook_receiver import Receiver


class Silent:
    """Takes every connection on any address of loopback, and never answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.came = asyncio.Semaphore(0)

    def url(self, number: int) -> str:
        """One of its hosts."""
        return f"http://127.1.{number >> 8}.{number & 255}:{self._port}/"

    async def wait_for_requests(self, count: int) -> None:
        """Until so many more have come."""
        for _ in range(count):
            await self.came.acquire()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    """Receivers that take all the time there is."""
    gone = asyncio.Event()

    async def never_answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receivers.came.release()
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(never_answer, "0.0.0.0", 0)  # noqa: S104 - all of loopback
    receivers = Silent(server.sockets[0].getsockname()[1])
    async with server:
        yield receivers
        gone.set()


async def test_silent_receivers_of_one_tenant(
    store: SqliteStore, clock: ManualDispatcherClock, silent: Silent, receiver: Receiver
) -> None:
    """Hosts without number, due for longer than all else: a part of the places is all they get."""
    for n in range(100):
        await deliver_end(store, f"s{n:03}", silent.url(n), NOON - timedelta(hours=1), "silent")
    async with playing(store, clock) as played:
        await silent.wait_for_requests(16)
        for n in range(20):
            await deliver_end(store, f"w{n:02}", receiver.url, tenant="well")
        await receiver.received(20)
        await played.landed("well")
        assert played.in_flight() == {"silent": 16}


async def test_silent_receivers_of_many_tenants(
    store: SqliteStore, clock: ManualDispatcherClock, silent: Silent, receiver: Receiver
) -> None:
    """Where every place is held, a tenant with none on its way has one all the same."""
    for n in range(200):
        await deliver_end(
            store, f"s{n:03}", silent.url(n), NOON - timedelta(hours=1), f"silent{n % 8}"
        )
    async with playing(store, clock) as played:
        await silent.wait_for_requests(64)
        for n in range(20):
            await deliver_end(store, f"w{n:02}", receiver.url, tenant="well")
        await receiver.received(20)
        await played.landed("well")
        assert played.in_flight() == {f"silent{n}": 8 for n in range(8)}


async def test_tenants_sharing_a_host_do_not_delay_each_other(
    store: SqliteStore, clock: ManualDispatcherClock, silent: Silent, receiver: Receiver
) -> None:
    """What one tenant has on its way to a host is no reason for another's to wait."""
    for n in range(20):
        await deliver_end(store, f"s{n:02}", silent.url(7), NOON - timedelta(hours=1), "silent")
    async with playing(store, clock):
        await silent.wait_for_requests(8)
        await deliver_end(store, "w", silent.url(7), tenant="well")
        await silent.wait_for_requests(1)


async def test_a_retry_due_while_slots_are_taken(
    store: SqliteStore, clock: ManualDispatcherClock, silent: Silent, receiver: Receiver
) -> None:
    """It is begun at its time, not when somebody else's post has ended."""
    receiver.status = 503
    async with playing(store, clock) as played:
        await deliver_end(store, "w", receiver.url, tenant="well")
        await receiver.received(1)
        await played.rest()
        for n in range(30):
            await deliver_end(store, f"s{n:02}", silent.url(n), tenant="silent")
        await silent.wait_for_requests(16)
        while clock.wakes_at is None or clock.wakes_at > NOON + timedelta(seconds=10):
            clock.began.clear()
            await clock.began.wait()
        clock.set(clock.wakes_at)
        await receiver.received(2)


async def test_slots_are_shared_round_robin(store: SqliteStore) -> None:
    """Each next one to the tenant that has the fewest; what is not due yet waits."""
    for tenant, count in (("a", 30), ("b", 3), ("c", 30)):
        for n in range(count):
            at = NOON + timedelta(seconds=n)
            await deliver_end(store, f"{tenant}{n:02}", f"http://{tenant}{n % 3}/", at, tenant)

    async def due_events(
        slots: DeliverySlots, *hosts: tuple[str, str], seconds: int = 60
    ) -> list[str]:
        now = NOON + timedelta(seconds=seconds)
        due = await store.outbox.due(now, slots, not_ids=("evt_a00",), not_hosts=hosts)
        return sorted(event.id.removeprefix("evt_") for event in due)

    assert await due_events(DeliverySlots(6, 0, 16)) == ["a01", "a02", "b00", "b01", "c00", "c01"]
    assert await due_events(DeliverySlots(4, 0, 16, {"a": 3})) == ["b00", "b01", "c00", "c01"]
    assert await due_events(DeliverySlots(100, 0, 2, {"a": 2, "c": 1})) == ["b00", "b01", "c00"]
    assert await due_events(DeliverySlots(0, 9, 16, {"a": 5})) == ["b00", "c00"]
    assert await due_events(DeliverySlots(0, 1, 16)) in (["a01"], ["b00"], ["c00"])
    assert await due_events(DeliverySlots(0, 0, 16)) == []
    assert await due_events(DeliverySlots(2, 0, 16, {"c": 9}), ("a", "a1"), ("b", "a0")) == [
        "a02",
        "b00",
    ]
    assert await due_events(DeliverySlots(9, 0, 16), seconds=1) == [
        "a01",
        "b00",
        "b01",
        "c00",
        "c01",
    ]


async def test_redelivery_sends_one_request_at_a_time(
    store: SqliteStore,
    clock: ManualDispatcherClock,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever comes while one is about to begin waits for it, too."""
    receiver.status = 410
    async with playing(store, clock) as played:
        await deliver_end(store, "a", receiver.url)
        await receiver.received(1)
        await played.rest()
        now = most = 0
        handle = Receiver.handle

        async def counted(self: Receiver, request: web.Request) -> web.Response:
            nonlocal now, most
            now += 1
            most = max(most, now)
            for _ in range(50):  # Time enough for another one to come.
                await store.outbox.find_undelivered("evt_a")
            answer = await handle(self, request)
            now -= 1
            return answer

        monkeypatch.setattr(Receiver, "handle", counted)
        later: list[asyncio.Task[OutboxEvent]] = []

        def begin() -> asyncio.Task[OutboxEvent]:
            return asyncio.create_task(played.sender.redeliver("evt_a"))

        first, second = begin(), begin()
        first.add_done_callback(lambda _: later.append(begin()))
        await asyncio.gather(first, second)
        await asyncio.gather(*later)
        assert most == 1
        assert len(receiver.all) == 4
        receiver.status = 200
        done = await asyncio.gather(begin(), begin(), return_exceptions=True)
        assert sum(isinstance(outcome, ResourceNotFound) for outcome in done) == 1


async def test_unresolvable_names(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup goes on when its post has given up: one tenant's take a part of the threads only."""
    began, answered, look_up = threading.Semaphore(0), threading.Event(), socket.getaddrinfo

    def slow(host: str, *rest: Any, **options: Any) -> Any:
        if host.endswith(".silent.example"):
            began.release()
            answered.wait(60)
            raise socket.gaierror
        return look_up("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    port = receiver.url.rsplit(":", 1)[1].removesuffix("/hook")
    async with WebhookHttpClient(LOOPBACK) as poster:

        async def post(tenant: str, host: str) -> int:
            rpc_context.bind_caller(Caller(tenant))
            return await poster.post(f"http://{host}.{tenant}.example:{port}/hook", {}, b"{}")

        try:
            given_up = [asyncio.create_task(post("silent", f"h{n}")) for n in range(100)]
            for _ in range(16):
                assert await asyncio.to_thread(began.acquire, timeout=30)
            for task in given_up:
                task.cancel()
            assert await post("well", "hooks") == 200
        finally:
            answered.set()
