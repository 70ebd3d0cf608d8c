"""The breaker: opens on many failures, stops creates only, and lets one probe at a time through."""

import asyncio

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mediagate_server.errors import CircuitOpen
from mediagate_server.observability import metrics
from mediagate_server.upstream.policies.circuit_breaker import PROBE_TIMEOUT, CircuitBreaker
from mediagate_server.upstream.policies.policy import Endpoint, UpstreamRequest
from mediagate_server.upstream.port import NoResponse, RefusalReason, RequestRefused
from mediagate_server.upstream.settings import UpstreamLimits

OK = None
FAILED = NoResponse("http status 500", http_status=500)
DOWN = RequestRefused(RefusalReason.UNREACHABLE)
NEUTRAL = RequestRefused(RefusalReason.INPUT, http_status=422)
THROTTLED = RequestRefused(RefusalReason.THROTTLED, http_status=429)


class FakeMonotonicClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def send(
    breaker: CircuitBreaker,
    end: BaseException | None,
    endpoint: Endpoint = "create",
    model: str = "m",
) -> None:
    """One request through the breaker that ends so."""

    async def call_next() -> str:
        if end is not None:
            raise end
        return "answer"

    request = breaker(UpstreamRequest(endpoint, model), call_next)
    with pytest.raises(StopIteration if end is None else type(end)) as ended:
        request.send(None)  # nothing in it waits
    assert getattr(ended.value, "value", ended.value) == (end or "answer")


def is_open(breaker: CircuitBreaker, model: str = "m") -> bool:
    try:
        breaker.check(model)
    except CircuitOpen:
        return True
    return False


def gauge(model: str = "m") -> float:
    value = metrics.REGISTRY.get_sample_value("mediagate_breaker_open", {"model": model})
    return value or 0.0


def test_opens_at_half_of_twenty() -> None:
    """Neither 19 failures nor a third of many do it; ten of twenty do."""
    few, mostly_well, half = (
        CircuitBreaker(UpstreamLimits(), FakeMonotonicClock()) for _ in range(3)
    )
    for _ in range(19):
        send(few, FAILED)
    assert not is_open(few)
    for number in range(90):
        send(mostly_well, DOWN if number % 3 == 2 else OK)
    assert not is_open(mostly_well)
    for number in range(20):
        assert not is_open(half)
        send(half, FAILED if number % 2 else OK)
    assert is_open(half)
    assert not is_open(half, "another model")


def test_old_failures_are_forgotten() -> None:
    """Only the window counts."""
    clock = FakeMonotonicClock()
    breaker = CircuitBreaker(UpstreamLimits(), clock)
    for _ in range(19):
        send(breaker, FAILED)
    clock.now += 30.0
    send(breaker, FAILED)
    assert not is_open(breaker)


def test_client_errors_and_cancellations_are_not_failures() -> None:
    """4xx, throttling and callers that leave say nothing about the model, not even good."""
    breaker = CircuitBreaker(UpstreamLimits(), FakeMonotonicClock())
    for _ in range(50):
        for end in (NEUTRAL, THROTTLED, asyncio.CancelledError()):
            send(breaker, end)
            send(breaker, end, "get")
    assert not is_open(breaker)
    for _ in range(20):
        send(breaker, FAILED)
    assert is_open(breaker)


def test_models_that_callers_name_share_a_series() -> None:
    """Each has a circuit of its own, and all of them one label: it counts those that are open."""
    clock = FakeMonotonicClock()
    settings = UpstreamLimits()
    breaker = CircuitBreaker(
        settings, clock, label=lambda model: model if model == "known" else "other"
    )
    before = gauge("other")
    for model in ("o/a", "o/b"):
        for _ in range(20):
            send(breaker, FAILED, model=model)
    assert is_open(breaker, "o/a")
    assert not is_open(breaker, "o/c")
    assert gauge("other") == before + 2
    assert gauge("o/a") == 0
    clock.now += settings.breaker_pause
    send(breaker, OK, model="o/a")
    assert gauge("other") == before + 1
    clock.now += settings.breaker_pause
    send(breaker, OK, model="o/b")
    assert gauge("other") == before


def test_closed_circuits_are_forgotten_before_open_ones() -> None:
    """Callers may name any number of models; what is open is remembered."""
    breaker = CircuitBreaker(UpstreamLimits(), FakeMonotonicClock(), label=lambda _: "other")
    for _ in range(20):
        send(breaker, FAILED, model="o/bad")
    for number in range(3_000):
        send(breaker, OK, model=f"o/{number}")
    assert is_open(breaker, "o/bad")
    assert len(breaker._circuits) <= 1_000


def test_good_reads_do_not_hide_bad_creates() -> None:
    """What started before is read well, and every create fails: it opens all the same."""
    breaker = CircuitBreaker(UpstreamLimits(), FakeMonotonicClock())
    for _ in range(20):
        send(breaker, FAILED)
        for _ in range(10):
            send(breaker, OK, "get")
    assert is_open(breaker)


def test_bad_reads_stop_creates_but_no_reads() -> None:
    """What cannot be followed is not begun; what runs is followed."""
    clock = FakeMonotonicClock()
    breaker = CircuitBreaker(UpstreamLimits(), clock)
    endpoints: list[Endpoint] = ["get", "list", "cancel", "stream"]
    for number in range(20):
        send(breaker, FAILED, endpoints[number % 4])
    assert is_open(breaker)
    send(breaker, OK, "get")
    assert is_open(breaker)
    clock.now += 10.0
    send(breaker, FAILED, "get")
    assert is_open(breaker)
    clock.now += 10.0
    send(breaker, OK, "get")
    assert not is_open(breaker)
    breaker.admit("m")
    breaker.admit("m")


def opened_by_creates(clock: FakeMonotonicClock) -> CircuitBreaker:
    breaker = CircuitBreaker(UpstreamLimits(), clock)
    for _ in range(20):
        send(breaker, FAILED)
    return breaker


def test_refuses_with_the_time_to_wait() -> None:
    """The caller is told when; the gauge shows it."""
    clock = FakeMonotonicClock()
    breaker = opened_by_creates(clock)
    clock.now += 4.0
    with pytest.raises(CircuitOpen) as refused:
        breaker.admit("m")
    assert refused.value.failure.retry_after == pytest.approx(6.0)
    assert refused.value.failure.metadata == {"model": "m"}
    assert gauge() == 1


def test_one_probe_closes_it() -> None:
    """Half open, one create goes through; good reads do not stand in for it."""
    clock = FakeMonotonicClock()
    breaker = opened_by_creates(clock)
    clock.now += 10.0
    send(breaker, OK, "get")
    breaker.admit("m")
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            breaker.admit("m")
    send(breaker, OK)
    for _ in range(3):
        breaker.admit("m")
    assert gauge() == 0
    for _ in range(19):
        send(breaker, FAILED)
    assert not is_open(breaker)


def test_a_failed_probe_opens_it_again() -> None:
    """For another pause, then the next probe."""
    clock = FakeMonotonicClock()
    breaker = opened_by_creates(clock)
    clock.now += 10.0
    breaker.admit("m")
    send(breaker, FAILED)
    clock.now += 9.9
    assert is_open(breaker)
    clock.now += 0.1
    breaker.admit("m")


@pytest.mark.parametrize("end", [NEUTRAL, THROTTLED, asyncio.CancelledError()])
def test_an_inconclusive_probe_is_followed_by_another(end: BaseException) -> None:
    """Refused for its own input, say: neither good nor bad."""
    clock = FakeMonotonicClock()
    breaker = opened_by_creates(clock)
    clock.now += 10.0
    breaker.admit("m")
    send(breaker, end)
    breaker.admit("m")
    assert is_open(breaker)


def test_an_unsent_probe_expires() -> None:
    """Its lease ends, so that nothing is stopped for ever."""
    clock = FakeMonotonicClock()
    breaker = opened_by_creates(clock)
    clock.now += 10.0
    breaker.admit("m")
    clock.now += PROBE_TIMEOUT - 0.1
    assert is_open(breaker)
    clock.now += 0.1
    breaker.admit("m")


class BreakerMachine(RuleBasedStateMachine):
    """Any order of admissions, ends and waits, beside the plain history of what happened."""

    @initialize(least=st.integers(1, 6))
    def begin(self, least: int) -> None:
        self.clock = FakeMonotonicClock()
        self.settings = UpstreamLimits(breaker_least=least)
        self.breaker = CircuitBreaker(self.settings, self.clock)
        self.history: list[tuple[str, float, bool]] = []
        self.sending = 0
        self.opened_at: float | None = None

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 10.0, 31.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def admit(self) -> None:
        was_open = self.opened_at is not None
        if is_open(self.breaker):
            assert was_open
            with pytest.raises(CircuitOpen) as refused:
                self.breaker.admit("m")
            assert 0 < (refused.value.failure.retry_after or 0) <= self.settings.breaker_pause
            return
        self.breaker.admit("m")
        self.sending += 1
        if was_open:
            assert self.opened_at is not None
            assert self.clock.now >= self.opened_at + self.settings.breaker_pause
            assert is_open(self.breaker)  # it was the probe: no other passes beside it

    @precondition(lambda self: self.sending > 0)
    @rule(end=st.sampled_from([OK, FAILED, DOWN, NEUTRAL, THROTTLED]))
    def create_ends(self, end: BaseException | None) -> None:
        self.sending -= 1
        self.ended("create", end)

    @rule(
        endpoint=st.sampled_from(["get", "list", "cancel", "stream"]),
        end=st.sampled_from([OK, FAILED, DOWN, NEUTRAL]),
    )
    def read_ends(self, endpoint: Endpoint, end: BaseException | None) -> None:
        self.ended(endpoint, end)

    def ended(self, endpoint: Endpoint, end: BaseException | None) -> None:
        before = gauge()
        send(self.breaker, end, endpoint)
        after = gauge()
        kind = "create" if endpoint == "create" else "read"
        if end in (OK, FAILED, DOWN):
            self.history.append((kind, self.clock.now, end is not OK))
        if before < after:
            since = self.clock.now - self.settings.breaker_window
            recent = [bad for of, at, bad in self.history if of == kind and at > since]
            assert len(recent) >= self.settings.breaker_least
            assert sum(recent) >= len(recent) / 2
            self.opened_at = self.clock.now
        elif before > after:
            assert end is OK
            assert self.opened_at is not None
            assert self.clock.now >= self.opened_at + self.settings.breaker_pause
            self.opened_at = None
            self.history.clear()

    @invariant()
    def always_opens_up_again(self) -> None:
        """Whatever happened, a long enough wait lets a create through."""
        if hasattr(self, "breaker"):
            now = self.clock.now
            self.clock.now += self.settings.breaker_pause + PROBE_TIMEOUT
            assert not is_open(self.breaker)
            self.clock.now = now

    def teardown(self) -> None:
        metrics.breaker_open.labels("m").set(0)


BreakerMachine.TestCase.settings = hypothesis_settings(deadline=None, stateful_step_count=40)
TestBreakerMachine = pytest.mark.timeout(300)(BreakerMachine.TestCase)


@pytest.fixture(autouse=True)
def _gauge_at_rest() -> None:
    metrics.breaker_open.labels("m").set(0)
