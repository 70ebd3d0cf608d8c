"""Requests a minute: so many pass, the next is told when to come again, health is free."""

from typing import Any

import grpc
from google.rpc import error_details_pb2 as details
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1 import text_pb2_grpc
from mediagate_server.api.interceptors.rate_limit import SlidingWindow, seconds_until_free
from tests.builders import text_request
from tests.grpc_errors import detail_of, reason_of, rpc_error

from .conftest import InterceptorServer, Start
from .fake_servicers import Texts

NOON = 6_000_000.0
"""A whole minute of the clock."""


class FakeMonotonicClock:
    """The window's clock, which stands, 20 s into a minute, until a test moves it."""

    def __init__(self) -> None:
        self.time = NOON + 20

    def __call__(self) -> float:
        return self.time


def ask(server: InterceptorServer) -> Any:
    """One good call."""
    stub: Any = text_pb2_grpc.TextServiceStub(server.channel)
    return stub.GenerateText(text_request(prompt="hello"))


async def test_calls_over_the_limit_are_refused(start: Start) -> None:
    """RESOURCE_EXHAUSTED, with whose quota it is and when there is room."""
    servicer = Texts()
    server = await start(servicer, requests_per_minute=lambda: 3, clock=FakeMonotonicClock())
    for _ in range(3):
        await ask(server)
    error = await rpc_error(ask(server))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    quota: Any = detail_of(error, details.QuotaFailure)
    assert quota.violations[0].subject == "tenant:local"
    info: Any = detail_of(error, details.ErrorInfo)
    assert info.metadata["requests_per_minute"] == "3"
    retry: Any = detail_of(error, details.RetryInfo)
    assert retry.retry_delay.seconds == 41  # at 40 the whole last minute still counts
    assert len(servicer.prompts) == 3


async def test_the_limit_can_change_and_be_removed(start: Start) -> None:
    """It is asked at every call; 0 is no limit."""
    limits = [1]
    server = await start(Texts(), requests_per_minute=lambda: limits[0], clock=FakeMonotonicClock())
    await ask(server)
    await rpc_error(ask(server))
    limits[0] = 0
    for _ in range(5):
        await ask(server)
    limits[0] = 2
    await ask(server)


async def test_health_checks_are_not_limited(start: Start) -> None:
    """Who asks for health is never refused, and takes nothing from the tenant."""
    limits = {"requests_per_minute": lambda: 1, "clock": FakeMonotonicClock()}
    server = await start(health.aio.HealthServicer(), Texts(), **limits)
    stub: Any = health_pb2_grpc.HealthStub(server.channel)
    for _ in range(3):
        await stub.Check(health_pb2.HealthCheckRequest())
    await ask(server)


@given(
    limit=st.integers(1, 500),
    before=st.integers(0, 500),
    now=st.integers(0, 500),
    passed=st.floats(0, 59.9),
)
def test_the_retry_delay_is_exact(limit: int, before: int, now: int, passed: float) -> None:
    """The wait is the first whole second at which the window takes one more."""
    before, now = min(before, limit), min(now, limit)
    wait = seconds_until_free(
        limit, before=before, before_left=60 - passed, now=now, now_left=60 - passed, window=60
    )

    def has_room(later: float) -> bool:
        at = passed + later
        old, new = (before, now) if at < 60 else (now, 0) if at < 120 else (0, 0)
        return old * (1 - at % 60 / 60) + new < limit

    assert 1 <= wait <= 120
    assert has_room(wait + 1e-5)
    assert wait == 1 or not has_room(wait - 1.001)


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.floats(0, 45), max_size=200),
    late=st.floats(0, 59.9),
)
def test_no_window_exceeds_twice_the_limit_nor_refuses_for_ever(
    limit: int, steps: list[float], late: float
) -> None:
    """A minute of the clock never has more than the limit, and who waits as told gets in."""
    clock = FakeMonotonicClock()
    clock.time = NOON + late
    window = SlidingWindow(clock)
    admitted: dict[int, int] = {}
    for step in steps:
        clock.time += step
        wait = window.take("tenant", limit)
        if wait:
            clock.time += wait
            assert window.take("tenant", limit) == 0
        minute = int(clock.time // 60)
        admitted[minute] = admitted.get(minute, 0) + 1
    assert all(count <= limit for count in admitted.values())


def test_keys_are_limited_separately() -> None:
    window = SlidingWindow(FakeMonotonicClock())
    assert window.take("one", 1) == 0
    assert window.take("one", 1) == 41
    assert window.take("two", 1) == 0


def test_idle_keys_are_evicted() -> None:
    """Memory is bounded: keys that say nothing any more make room for new ones."""
    clock = FakeMonotonicClock()
    window = SlidingWindow(clock)
    for number in range(10_000):
        window.take(str(number), 1)
    clock.time += 121
    assert window.take("new", 1) == 0
    assert len(window._counts) == 1
