"""Every event arrives: at once, after an hour, after a restart, or it is listed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from standardwebhooks import webhooks as their_module

from mediagate_server.errors import ResourceNotFound
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.store.records import State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.webhooks.dispatcher import RETRY_OFFSETS
from mediagate_server.webhooks.http_client import format_secret
from tests.server_process import free_ports
from tests.store.records import NOON

from .ended_generations import accepted, deliver_end, end
from .manual_clock_dispatcher import ManualDispatcherClock, playing
from .webhook_receiver import Received, Receiver, receiving

HOUR = timedelta(hours=1)


@pytest.fixture
def their_time(monkeypatch: pytest.MonkeyPatch, clock: ManualDispatcherClock) -> None:
    """The other library's time is the test's, too: it refuses what is five minutes old."""

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:  # noqa: ARG003 - theirs to name
            return clock.now()

    monkeypatch.setattr(their_module, "datetime", Now)


async def secret_of(store: SqliteStore) -> str:
    """The tenant's first secret, as it is shown."""
    return format_secret((await store.outbox.rotate_secret("local", NOON, NOON + HOUR)).secret)


def their_view(secret: str, got: Received) -> Any:
    """What the library of the standard makes of it. Raises where the secret did not sign it."""
    return standardwebhooks.Webhook(secret).verify(got.body, dict(got.headers))


async def test_a_terminal_event_is_sent_at_once(
    store: SqliteStore, receiver: Receiver, clock: ManualDispatcherClock, their_time: None
) -> None:
    """As proto JSON, signed, once; of what has not ended nothing is told."""
    async with playing(store, clock) as played:
        await accepted(store, "open", receiver.url)
        ended = await deliver_end(store, "a", receiver.url)
        (got,) = await receiver.received(1)
        await played.rest()
        seen = their_view(await secret_of(store), got)
        assert got.id == "evt_a"
        assert got.headers["Content-Type"] == "application/json"
        assert seen["type"] == "WEBHOOK_EVENT_TYPE_GENERATION_SUCCEEDED"
        assert seen["generation"]["id"] == ended.id
        assert seen["time"].startswith("2026-01-02T12:00:00.123456")
        await played.until(NOON + timedelta(days=2))
    assert len(receiver.all) == 1
    assert not await store.outbox.list_undelivered("", 10, "")


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
async def test_every_terminal_state_has_an_event_type(
    store: SqliteStore, receiver: Receiver, clock: ManualDispatcherClock, state: State
) -> None:
    """What failed is told of, too."""
    async with playing(store, clock):
        await end(store, await accepted(store, "a", receiver.url), state=state)
        (got,) = await receiver.received(1)
    assert got.json["type"] == f"WEBHOOK_EVENT_TYPE_GENERATION_{state.name}"


@asynccontextmanager
async def down_until_back(port: int, how: str) -> AsyncIterator[Callable[[], Awaitable[Receiver]]]:
    """A receiver that nobody reaches, or that says 503, until it is told to be back."""
    async with AsyncExitStack() as stack:
        receiver: Receiver | None = None
        if how != "closed":
            receiver = await stack.enter_async_context(receiving(port))
            receiver.status = int(how)

        async def back() -> Receiver:
            nonlocal receiver
            if receiver is None:
                receiver = await stack.enter_async_context(receiving(port))
            receiver.status = 200
            receiver.all.clear()
            return receiver

        yield back


@pytest.mark.parametrize("how", ["closed", "503"])
async def test_a_receiver_down_for_an_hour_gets_every_event(
    tmp_path: Path, clock: ManualDispatcherClock, their_time: None, how: str
) -> None:
    """Each event comes once it is back, with its own time, and any library takes it.

    A new server in the midst of it changes nothing.
    """
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/hook"
    happened = {f"evt_{n:02}": NOON + timedelta(minutes=5 * n) for n in range(12)}
    async with down_until_back(port, how) as back:
        for half in (range(7), range(7, 12)):
            async with (
                SqliteStore(tmp_path / "data") as store,
                playing(store, clock) as played,
            ):
                for n in half:
                    await played.until(at := happened[f"evt_{n:02}"])
                    await deliver_end(store, f"{n:02}", url, at)
                await played.rest()
        async with SqliteStore(tmp_path / "data") as store, playing(store, clock) as played:
            secret = await secret_of(store)
            await played.until(NOON + HOUR)
            receiver = await back()
            for _ in range(24 * 12):
                await played.until(clock.now() + timedelta(minutes=5))
                for got in receiver.all:
                    if got.id in happened:
                        seen = their_view(secret, got)
                        occurred_at = datetime.fromisoformat(seen["time"])
                        assert occurred_at.astimezone(UTC) == happened.pop(got.id)
                if not happened:
                    break
    assert not happened
    assert len(receiver.all) == 12
    # Nobody had to wait for longer than the pause that was under way: from 45 minutes to 2 hours.
    assert clock.now() <= NOON + 3 * HOUR


async def test_an_event_is_listed_as_undelivered_after_ten_tries(
    store: SqliteStore, receiver: Receiver, clock: ManualDispatcherClock
) -> None:
    """With the same id and another signature each time. By hand it can be sent still."""
    receiver.status = 503
    async with playing(store, clock) as played:
        await deliver_end(store, "a", receiver.url)
        await played.until(NOON + timedelta(hours=20))
        assert not await store.outbox.list_undelivered("local", 10, "")
        await played.until(NOON + timedelta(hours=24))
        assert len(receiver.all) == 10 == len(RETRY_OFFSETS)
        assert {got.id for got in receiver.all} == {"evt_a"}
        assert len({got.headers["webhook-signature"] for got in receiver.all}) == 10
        (listed,) = await store.outbox.list_undelivered("local", 10, "")
        assert (listed.tries, listed.http_status, listed.host) == (10, 503, "127.0.0.1")
        assert not await store.outbox.list_undelivered("another", 10, "")

        assert (await played.sender.redeliver("evt_a")).tries == 11
        (listed,) = await store.outbox.list_undelivered("", 10, "")
        assert listed.tries == 11
        receiver.status = 204
        assert (await played.sender.redeliver("evt_a")).http_status == 204
        assert not await store.outbox.list_undelivered("", 10, "")
        with pytest.raises(ResourceNotFound):
            await played.sender.redeliver("evt_a")


async def test_a_410_response_ends_the_retries(
    store: SqliteStore, receiver: Receiver, clock: ManualDispatcherClock
) -> None:
    """410 is an answer for good."""
    receiver.status = 410
    async with playing(store, clock) as played:
        await deliver_end(store, "a", receiver.url)
        await receiver.received(1)
        await played.rest()
    (listed,) = await store.outbox.list_undelivered("", 10, "")
    assert (listed.tries, listed.http_status) == (1, 410)


async def test_a_redirect_is_not_followed(
    store: SqliteStore, receiver: Receiver, clock: ManualDispatcherClock
) -> None:
    """It is a try that failed, wherever it leads."""
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    async with playing(store, clock) as played:
        await deliver_end(store, "a", receiver.url)
        await receiver.received(1)
        await played.rest()
        assert len(receiver.all) == 1


async def test_dispatching_continues_after_an_internal_error(
    store: SqliteStore,
    receiver: Receiver,
    clock: ManualDispatcherClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is due is looked for again after a moment, and told."""
    due, first = type(store.outbox).due, iter([True])

    async def broken(outbox: Any, *args: Any, **more: Any) -> Any:
        if next(first, False):
            raise ZeroDivisionError
        return await due(outbox, *args, **more)

    monkeypatch.setattr(type(store.outbox), "due", broken)
    await deliver_end(store, "a", receiver.url)
    async with playing(store, clock) as played:
        while clock.wakes_at is None:
            clock.began.clear()
            await clock.began.wait()
        assert not receiver.all
        await played.until(NOON + timedelta(seconds=1))
        (got,) = await receiver.received(1)
    assert got.id == "evt_a"


async def test_pending_events_survive_a_restart(
    tmp_path: Path, clock: ManualDispatcherClock
) -> None:
    """Also what was accepted by one server and ended by the next."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/hook"
    async with SqliteStore(tmp_path / "data") as store:
        await deliver_end(store, "a", url)
        late = await accepted(store, "b", url)
    async with SqliteStore(tmp_path / "data") as store, receiving(port) as receiver:
        await end(store, late)
        async with playing(store, clock):
            got = await receiver.received(2)
    assert {delivery.id for delivery in got} == {"evt_a", "evt_b"}


async def test_webhook_urls_are_encrypted(tmp_path: Path, store: SqliteStore) -> None:
    """It may hold a secret."""
    await deliver_end(store, "a", "https://example.com/hook?token=canary-4711")
    for file in (tmp_path / "data").iterdir():
        if file.is_file():
            assert b"canary-4711" not in file.read_bytes(), file.name


async def test_a_slow_receiver_does_not_keep_others_waiting(
    store: SqliteStore, clock: ManualDispatcherClock, receiver: Receiver
) -> None:
    """More events of its than may be on their way at once wait; another's goes past them."""
    connected = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    slow = await asyncio.start_server(never_answer, "127.0.0.2", 0)
    async with slow:
        port = slow.sockets[0].getsockname()[1]
        for n in range(40):
            await deliver_end(store, f"s{n:02}", f"http://127.0.0.2:{port}/", NOON)
        async with playing(store, clock) as played:
            await connected.wait()
            await deliver_end(store, "z", receiver.url)
            (got,) = await receiver.received(1)
            assert got.id == "evt_z"
            assert len(played.sender._deliveries) <= 9


async def test_the_egress_policy_applies_when_sending(
    store: SqliteStore, clock: ManualDispatcherClock, receiver: Receiver
) -> None:
    """Also where it was let in when the call was accepted."""
    async with playing(store, clock, EgressPolicy()) as played:
        await deliver_end(store, "a", receiver.url)
        await played.until(NOON + timedelta(minutes=20))
    assert not receiver.all
