"""Rate limits and credit: what is let through, what is told, how it is switched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_sandbox.clock import ManualClock
from mediagate_sandbox.control_client import ControlError, SandboxControl
from mediagate_sandbox.token_bucket import TokenBucket

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, Answer, SandboxClient

HANG = {"prompt": "x [[hang]]"}


def rate_limit_headers(answer: Answer) -> tuple[int, int]:
    """What an answer tells of its limit."""
    return int(answer.headers["ratelimit-remaining"]), int(answer.headers["ratelimit-reset"])


async def test_remaining_requests_count_down(frozen_clock_client: SandboxClient) -> None:
    """Creates from 599, reads of a prediction from 59999, everything else from 2999."""
    assert rate_limit_headers(await frozen_clock_client.create(LLAMA, HANG)) == (599, 1)
    assert rate_limit_headers(await frozen_clock_client.create(SCHNELL, {})) == (598, 1)
    assert rate_limit_headers(await frozen_clock_client.get("/v1/predictions")) == (2999, 1)
    assert rate_limit_headers(await frozen_clock_client.get("/v1/models/no/body")) == (2998, 1)
    assert rate_limit_headers(await frozen_clock_client.create(LLAMA, {"prompt": 7})) == (597, 1)
    for left in (59_999, 59_998):
        answer = await frozen_clock_client.get("/v1/predictions/none")
        assert rate_limit_headers(answer) == (left, 1)


async def test_the_601st_create_of_a_moment(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """It is refused, others are not; a tenth of a second later there is room for one."""
    answers = [await frozen_clock_client.create(SCHNELL, {}) for _ in range(600)]
    assert {each.status for each in answers} == {422}
    assert rate_limit_headers(answers[-1]) == (0, 60)
    refused = await frozen_clock_client.create(LLAMA, HANG)
    assert refused.status == 429
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert refused.headers["Retry-After"] == "1"
    assert rate_limit_headers(refused) == (0, 60), "until it is full, not until the next one passes"
    assert refused.json == {
        "detail": "Request was throttled. Your rate limit resets in ~60s.",
        "status": 429,
        "retry_after": 1,
    }
    assert (await frozen_clock_client.state())["creates"]["total"] == 0
    assert (await frozen_clock_client.get("/v1/account")).status == 200
    await clock.advance(0.1)
    statuses = [(await frozen_clock_client.create(LLAMA, HANG)).status for _ in range(2)]
    assert statuses == [201, 429]


async def test_reset_is_the_missing_over_the_rate(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """Of creates, ten come back a second: after 35 of them 3.5 s, after one second 2.5."""
    answers = [await frozen_clock_client.create(SCHNELL, {}) for _ in range(35)]
    assert rate_limit_headers(answers[-1]) == (565, 4)
    await clock.advance(1.05)
    assert rate_limit_headers(await frozen_clock_client.create(SCHNELL, {})) == (574, 3)
    await clock.advance(3600)
    assert rate_limit_headers(await frozen_clock_client.create(SCHNELL, {})) == (599, 1)


async def test_every_way_to_create_spends_the_same_budget(open_sandbox: Opener) -> None:
    """By version, by model and by deployment; a cancel is not a create."""
    async with open_sandbox(creates_per_minute=3) as caller:
        body = {"input": HANG}
        document = await caller.created(LLAMA, HANG)
        for path in (f"models/{SCHNELL}", "deployments/sandbox/text"):
            assert (await caller.send("POST", f"/v1/{path}/predictions", body)).status == 201
        assert (await caller.create(LLAMA, HANG)).status == 429
        assert (await caller.send("POST", document["urls"]["cancel"])).status == 200


async def test_limits_of_other_endpoints(
    frozen_clock_client: SandboxClient, open_sandbox: Opener, clock: ManualClock
) -> None:
    """Polls have a budget, all other reads share one; streams, downloads and control have none."""
    limits = {"requests_per_minute": 2, "gets_per_minute": 2}
    async with open_sandbox(clock, **limits, time_scale=0) as caller:
        document = await caller.created(LLAMA, {"prompt": "x [[tokens=1 first_ms=0 boot_ms=0]]"})
        await clock.advance(1)
        for _ in range(3):
            assert len(await caller.events(document)) == 2
        statuses = [(await caller.get(document["urls"]["get"])).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert [(await caller.get("/v1/models")).status for _ in range(3)] == [200, 200, 429]
        assert (await caller.get("/v1/predictions")).status == 429
        assert (await caller.get("/sandbox/state")).status == 200
        assert (await caller.create(LLAMA, HANG)).status == 201
        await clock.advance(30)
        assert (await caller.get("/v1/models")).status == 200


async def test_accounts_have_limits_of_their_own(open_sandbox: Opener) -> None:
    """An account is a token, whatever the scheme; without one there is nothing to count."""
    async with open_sandbox(creates_per_minute=1) as caller:
        for token, status in (("a", 201), ("b", 201), ("a", 429)):
            answer = await caller.create(LLAMA, HANG, Authorization=f"Bearer {token}")
            assert answer.status == status
        assert (await caller.create(LLAMA, HANG, Authorization="Token b")).status == 429
        nobody = await caller.create(LLAMA, HANG, Authorization="")
        assert nobody.status == 401
        assert "ratelimit-remaining" not in nobody.headers


async def test_low_credit(frozen_clock_client: SandboxClient, clock: ManualClock) -> None:
    """One create every ten seconds; the refusal says why, and reads are as free as ever."""
    await frozen_clock_client.send("POST", "/sandbox/limits", {"credit": "low"})
    assert rate_limit_headers(await frozen_clock_client.create(LLAMA, HANG)) == (0, 10)
    await clock.advance(4.5)
    refused = await frozen_clock_client.create(LLAMA, HANG)
    assert refused.status == 429
    assert refused.json["retry_after"] == 6
    assert refused.headers["Retry-After"] == "6"
    assert "6 requests per minute with a burst of 1 requests" in refused.json["detail"]
    assert refused.json["detail"].endswith("Your rate limit resets in ~6s.")
    assert rate_limit_headers(await frozen_clock_client.get("/v1/account"))[0] == 2999
    await clock.advance(5.5)
    assert (await frozen_clock_client.create(LLAMA, HANG)).status == 201
    await clock.advance(60)
    assert [(await frozen_clock_client.create(LLAMA, HANG)).status for _ in range(2)] == [201, 429]


async def test_no_credit(open_sandbox: Opener) -> None:
    """402 for each create, nothing is made of it; what was made can be read."""
    async with open_sandbox(credit="none") as caller:
        for send in (
            caller.create(LLAMA, HANG),
            caller.send("POST", f"/v1/models/{LLAMA}/predictions", {"input": HANG}),
        ):
            answer = await send
            assert answer.status == 402
            assert answer.json["title"] == "Insufficient credit"
            assert answer.json["status"] == 402
        assert (await caller.state())["creates"]["total"] == 0
        assert (await caller.get("/v1/predictions")).status == 200
        await caller.send("POST", "/sandbox/limits", {"credit": "enough"})
        assert (await caller.create(LLAMA, HANG)).status == 201


async def test_limits_are_switched_and_restored(open_sandbox: Opener) -> None:
    """What is not named stays; null lifts; DELETE brings back what was set at the start."""
    first: dict[str, Any] = {"creates_per_minute": 1, "requests_per_minute": 3000.0}
    first |= {"gets_per_minute": 60_000.0, "credit": "enough"}
    async with open_sandbox(creates_per_minute=1) as caller:
        assert (await caller.get("/sandbox/limits")).json == first
        answer = await caller.send("POST", "/sandbox/limits", {"creates_per_minute": None})
        assert answer.json == {**first, "creates_per_minute": None}
        created = [await caller.create(LLAMA, HANG) for _ in range(3)]
        assert {each.status for each in created} == {201}
        assert not any("ratelimit-remaining" in each.headers for each in created)
        assert (await caller.send("DELETE", "/sandbox/limits")).json == first
        assert [(await caller.create(LLAMA, HANG)).status for _ in range(2)] == [201, 429]


async def test_a_reset_restores_the_limits(sandbox_client: SandboxClient) -> None:
    """The next test finds the sandbox as if it were new."""
    control = SandboxControl(sandbox_client.sandbox.url)
    first = await asyncio.to_thread(control.limits)
    assert (await asyncio.to_thread(control.limits, credit="none"))["credit"] == "none"
    with pytest.raises(ControlError, match="credit"):
        await asyncio.to_thread(control.limits, credit="much")
    assert (await sandbox_client.create(LLAMA, HANG)).status == 402
    await asyncio.to_thread(control.reset)
    assert await asyncio.to_thread(control.limits) == first


@pytest.mark.parametrize(
    "body",
    [{"credit": "much"}, {"credit": None}, {"credit": []}, {"creates_per_minute": 0},
     {"creates_per_minute": "6"}, {"requests_per_minute": True}, {"burst": 1}, [], 7],
)  # fmt: skip
async def test_invalid_limits_are_refused(sandbox_client: SandboxClient, body: Any) -> None:
    """400, and nothing changes."""
    before = (await sandbox_client.get("/sandbox/limits")).json
    answer = await sandbox_client.send("POST", "/sandbox/limits", body)
    assert (answer.status, answer.json["status"]) == (400, 400)
    assert (await sandbox_client.get("/sandbox/limits")).json == before


@given(
    per_minute=st.integers(1, 5000),
    waits=st.lists(st.floats(0, 30), min_size=1, max_size=80),
)
def test_no_window_exceeds_the_burst_and_the_refill(per_minute: int, waits: list[float]) -> None:
    """In any span of time at most the burst and what was refilled; a refusal's word is kept."""
    bucket, now, passed = TokenBucket(per_minute, per_minute, 0.0), 0.0, list[float]()
    for wait in waits:
        now += wait
        for _ in range(per_minute // 20 + 1):
            token_use = bucket.take(now)
            if token_use.allowed:
                passed.append(now)
            else:
                assert token_use.reset >= token_use.retry_after >= 1
                now += token_use.retry_after
                assert bucket.take(now).allowed
                passed.append(now)
    for at, first in enumerate(passed[::7]):
        count = len(passed) - at * 7
        assert count <= per_minute + (passed[-1] - first) * per_minute / 60 + 1e-6
