"""The whole chain around a scripted upstream: what is tried again, what waits, what is counted."""

import asyncio

import pytest

from mediagate_server.errors import CircuitOpen
from mediagate_server.observability import metrics
from mediagate_server.upstream.port import (
    NoResponse,
    PublishedVersion,
    RefusalReason,
    RequestRefused,
)
from tests.upstream.policies.scripted_upstream import (
    ANSWERS,
    DOWN,
    INPUT,
    NO_RESPONSE,
    REQUEST,
    RunOnVirtualLoop,
    Scripted,
    ask,
    outbound,
    throttled,
)


def count(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"mediagate_{name}", labels) or 0.0


LIMIT = throttled(None)


@pytest.mark.parametrize("endpoint", ANSWERS)
def test_a_response_passes_through(run_on_virtual_loop: RunOnVirtualLoop, endpoint: str) -> None:
    """One request, its answer, nothing waited, one count."""

    async def main() -> None:
        upstream = Scripted()
        before = count("upstream_requests_total", endpoint=endpoint, outcome="ok")
        assert await ask(outbound(upstream), endpoint) == ANSWERS[endpoint]
        assert upstream.times() == pytest.approx([0], abs=0.01)
        assert count("upstream_requests_total", endpoint=endpoint, outcome="ok") == before + 1

    run_on_virtual_loop(main())


@pytest.mark.parametrize(
    ("endpoint", "tries"),
    [("get", 3), ("list", 3), ("model", 3), ("stream", 3), ("cancel", 5), ("upload", 3)],
)
@pytest.mark.parametrize("end", [NO_RESPONSE, DOWN, LIMIT])
def test_reads_and_cancels_are_retried(
    run_on_virtual_loop: RunOnVirtualLoop, endpoint: str, tries: int, end: BaseException
) -> None:
    """Up to their number of tries, each later than the one before; the last failure is told."""

    async def main() -> None:
        upstream = Scripted(*[end] * (tries - 1))
        assert await ask(outbound(upstream), endpoint) == ANSWERS[endpoint]
        assert len(upstream.requests) == tries
        assert len(set(upstream.times())) == tries
        assert upstream.times()[-1] < 30

        if end is LIMIT and endpoint in {"model", "upload"}:
            return  # Their callers wait for a minute: test_slow_connect_retries.py.
        upstream = Scripted(*[end] * 9)
        with pytest.raises(type(end)) as raised:
            await ask(outbound(upstream), endpoint)
        assert raised.value is end
        assert len(upstream.requests) == tries
        assert upstream.closed == 0

    run_on_virtual_loop(main())


def test_models_versions_and_deployments_share_one_rate(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """Models, versions and deployments: reads like any other, under one label."""

    async def main() -> None:
        upstream = Scripted()
        out = outbound(upstream)
        assert await out.get_version("o/n", "v") == PublishedVersion("v")
        assert (await out.get_deployment("o/d")).model == "o/n"
        assert [endpoint for endpoint, _ in upstream.requests] == ["model", "model"]

    run_on_virtual_loop(main())


@pytest.mark.parametrize("endpoint", ["get", "list", "model", "stream", "cancel"])
def test_definite_refusals_are_not_retried(
    run_on_virtual_loop: RunOnVirtualLoop, endpoint: str
) -> None:
    """A refusal for a reason stands; so does a cancellation."""

    async def main() -> None:
        refusals = [
            RequestRefused(r)
            for r in (RefusalReason.ACCOUNT, RefusalReason.NOT_FOUND, RefusalReason.OTHER)
        ]
        for end in (INPUT, *refusals, asyncio.CancelledError()):
            upstream = Scripted(end)
            with pytest.raises(type(end)):
                await ask(outbound(upstream), endpoint)
            assert len(upstream.requests) == 1

    run_on_virtual_loop(main())


@pytest.mark.parametrize(
    "end", [NO_RESPONSE, DOWN, throttled(1.0), INPUT, asyncio.CancelledError()]
)
def test_a_create_is_never_sent_twice(
    run_on_virtual_loop: RunOnVirtualLoop, end: BaseException
) -> None:
    """Whatever came of it: a second POST would be a second bill."""

    async def main() -> None:
        upstream = Scripted(end)
        with pytest.raises(type(end)):
            await ask(outbound(upstream), "create")
        assert len(upstream.requests) == 1

    run_on_virtual_loop(main())


def test_retry_after_is_respected(run_on_virtual_loop: RunOnVirtualLoop) -> None:
    """Throttled with a time: asked again then, and no other read of the account before."""

    async def main() -> None:
        upstream = Scripted(throttled(7.0))
        out = outbound(upstream)
        first = asyncio.create_task(ask(out, "get"))
        await asyncio.sleep(1)
        await ask(out, "list")
        await first
        assert [at for _, at in upstream.requests][1:] == pytest.approx([1_007, 1_007], abs=0.1)

    run_on_virtual_loop(main())


def test_a_throttled_create_delays_all_creates(run_on_virtual_loop: RunOnVirtualLoop) -> None:
    """The limit is the account's: other models wait too, reads do not."""

    async def main() -> None:
        upstream = Scripted(throttled(12.0))
        out = outbound(upstream)
        turn = out.admission.try_admit("llama-70b")
        with pytest.raises(RequestRefused):
            await out.create(REQUEST, turn=turn)
        assert not out.admission.try_admit("sdxl")
        await ask(out, "get")
        assert upstream.times() == pytest.approx([0, 0], abs=0.01)
        await out.admission.admit("sdxl")
        assert asyncio.get_running_loop().time() == pytest.approx(1_012, abs=0.01)

    run_on_virtual_loop(main())


@pytest.mark.parametrize(("retry_after", "hold_seconds"), [(None, 1), (0.0, 0.25), (60.0, 60)])
def test_the_length_of_a_hold(
    run_on_virtual_loop: RunOnVirtualLoop, retry_after: float | None, hold_seconds: float
) -> None:
    """A second where upstream told none. That a told one is bounded: test_error_mapping.py."""

    async def main() -> None:
        out = outbound(Scripted(throttled(retry_after)))
        with pytest.raises(RequestRefused):
            await ask(out, "create")
        await out.admission.admit()
        assert asyncio.get_running_loop().time() - 1_000 == pytest.approx(hold_seconds, abs=0.01)

    run_on_virtual_loop(main())


def test_creates_wait_at_admission_not_at_send(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """The turn is taken before the commit; sending then waits for nothing."""

    async def main() -> None:
        upstream = Scripted()
        out = outbound(upstream, creates_per_minute=6)
        waits = count("upstream_paced_seconds_sum", endpoint="create")
        turn = out.admission.try_admit("llama-70b")
        assert turn
        assert not out.admission.try_admit("llama-70b")
        turn.use()
        turn = await out.admission.admit("llama-70b")
        for _ in range(3):
            await out.create(REQUEST, turn=turn)
        assert upstream.times() == pytest.approx([10, 10, 10], abs=0.01)
        assert count("upstream_paced_seconds_sum", endpoint="create") - waits == pytest.approx(
            10, abs=0.01
        )

    run_on_virtual_loop(main())


def test_reads_have_their_own_rate(run_on_virtual_loop: RunOnVirtualLoop) -> None:
    """Gets, lists and cancels share one; streams and creates are not of it."""

    async def main() -> None:
        upstream = Scripted()
        out = outbound(upstream, reads_per_minute=6)
        await asyncio.gather(*(ask(out, each) for each in ("get", "list", "cancel")))
        assert upstream.times() == pytest.approx([0, 10, 20], abs=0.01)
        for endpoint in ("stream", "stream", "create"):
            await ask(out, endpoint)
        assert upstream.times()[3:] == pytest.approx([20, 20, 20], abs=0.01)

    run_on_virtual_loop(main())


def test_an_open_circuit_uses_no_turn(run_on_virtual_loop: RunOnVirtualLoop) -> None:
    """Creates of a model that fails are stopped before they wait; reads of it go on."""

    async def main() -> None:
        upstream = Scripted(*[NO_RESPONSE] * 20)
        out = outbound(upstream, creates_per_minute=6)
        for _ in range(20):
            with pytest.raises(NoResponse):
                await ask(out, "create")
        for _ in range(5):
            with pytest.raises(CircuitOpen):
                out.admission.try_admit("llama-70b")
            with pytest.raises(CircuitOpen):
                await out.admission.admit("llama-70b")
        await ask(out, "get")
        assert out.admission.try_admit("sdxl")
        await asyncio.sleep(60)
        assert not out.admission.try_admit("llama-70b")
        turn = await out.admission.admit("llama-70b")
        await out.create(REQUEST, model="llama-70b", turn=turn)
        await out.admission.admit("llama-70b")

    run_on_virtual_loop(main())


def test_a_circuit_that_opens_while_a_create_waits_stops_it(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """It is looked at again after the wait."""

    async def main() -> None:
        out = outbound(Scripted(*[NO_RESPONSE] * 20), creates_per_minute=6)
        (await out.admission.admit("llama-70b")).use()
        waiting = asyncio.create_task(out.admission.admit("llama-70b"))
        await asyncio.sleep(5)
        for _ in range(20):
            with pytest.raises(NoResponse):
                await ask(out, "create")
        with pytest.raises(CircuitOpen):
            await waiting

    run_on_virtual_loop(main())


def test_every_attempt_is_counted(run_on_virtual_loop: RunOnVirtualLoop) -> None:
    """By endpoint and outcome, and the tries after the first by their cause."""

    async def main() -> None:
        outcomes = ("no_answer", "unreachable", "throttled", "cancelled", "input", "ok", "bug")
        before = {
            o: count("upstream_requests_total", endpoint="cancel", outcome=o) for o in outcomes
        }
        causes = ("no_answer", "unreachable", "throttled")
        retried = {c: count("upstream_retries_total", endpoint="cancel", cause=c) for c in causes}
        out = outbound(Scripted(NO_RESPONSE, DOWN, throttled(0.0)))
        await ask(out, "cancel")
        for end in (INPUT, asyncio.CancelledError(), ZeroDivisionError()):
            with pytest.raises(type(end)):
                await ask(outbound(Scripted(end)), "cancel")
        for outcome in outcomes:
            counted = count("upstream_requests_total", endpoint="cancel", outcome=outcome)
            assert counted - before[outcome] == 1
        for cause in causes:
            counted = count("upstream_retries_total", endpoint="cancel", cause=cause)
            assert counted - retried[cause] == 1

    run_on_virtual_loop(main())


def test_a_broken_stream_is_not_reopened_by_the_policy(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """Only the reader knows how far it got. The stream is closed however it is left."""

    async def main() -> None:
        upstream = Scripted()
        out = outbound(upstream)
        with pytest.raises(NoResponse):
            async with out.stream("http://s", last_event_id="7"):
                raise NO_RESPONSE
        assert len(upstream.requests) == 1
        assert upstream.closed == 1

    run_on_virtual_loop(main())
