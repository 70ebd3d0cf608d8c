"""`Prefer: wait` and `Cancel-After`: synchronous answers and deadlines."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagate_sandbox.api_errors import ApiError
from mediagate_sandbox.clock import ManualClock
from mediagate_sandbox.prefer_headers import parse_cancel_after, parse_prefer

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient


async def test_a_run_done_in_time_is_returned_as_processing(sandbox_client: SandboxClient) -> None:
    """All output is there, but the status is not final: that shows on the next GET."""
    for version in (LLAMA, SCHNELL):
        answer = await sandbox_client.create(version, {"prompt": "x"}, Prefer="wait=60")
        document = answer.json
        assert answer.status == 201
        assert answer.headers["Preference-Applied"] == "wait=60"
        assert document["status"] == "processing"
        assert not {"completed_at", "metrics"} & set(document)
        final = (await sandbox_client.get(document["urls"]["get"])).json
        assert final["status"] == "succeeded"
        assert final["output"] == document["output"]
        assert final["metrics"]


@pytest.mark.parametrize("late", [201, 202])
async def test_a_run_not_done_in_time_is_returned_as_it_stands(
    open_sandbox: Opener, clock: ManualClock, late: int
) -> None:
    """Some output and the same `processing`: which of the two it is cannot be told from it."""
    async with open_sandbox(clock, late_answer_status=late) as caller:
        prompt = {"prompt": "x [[tokens=9 boot_ms=0 first_ms=1000 interval_ms=1000]]"}
        waiting = asyncio.create_task(caller.create(LLAMA, prompt, Prefer="wait=4"))
        await clock.sleeping(2)
        await clock.advance(4)
        answer = await waiting
        assert (answer.status, answer.json["status"]) == (late, "processing")
        assert 3 <= len(answer.json["output"]) <= 4
        slow = {"prompt": "x [[boot_ms=90000]]"}
        waiting = asyncio.create_task(caller.create(LLAMA, slow, Prefer="wait"))
        await clock.sleeping(3)
        await clock.advance(60)
        answer = await waiting
        assert (answer.status, answer.json["status"]) == (late, "starting")
        assert answer.headers["Preference-Applied"] == "wait"


async def test_a_failure_is_answered_as_a_failure(sandbox_client: SandboxClient) -> None:
    """Only success is handed over early."""
    answer = await sandbox_client.create(SCHNELL, {"prompt": "x [[fail=no]]"}, Prefer="wait")
    assert answer.status == 201
    assert (answer.json["status"], answer.json["error"]) == ("failed", "no")
    assert answer.json["metrics"]


async def test_a_deadline_before_the_start_aborts(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """`aborted`, with no time run; the deadline is shown from the start."""
    document = await frozen_clock_client.created(
        SCHNELL, {"prompt": "x [[boot_ms=60000]]"}, Cancel_After="10s"
    )
    created, deadline = (
        datetime.fromisoformat(document[name]) for name in ("created_at", "deadline")
    )
    assert (deadline - created).total_seconds() == 10
    await clock.advance(9.9)
    assert (await frozen_clock_client.get(document["urls"]["get"])).json["status"] == "starting"
    await clock.advance(0.2)
    final = (await frozen_clock_client.get(document["urls"]["get"])).json
    assert final["status"] == "aborted"
    assert final["metrics"] == {"predict_time": 0.0, "total_time": 10.0}
    assert "started_at" not in final


async def test_a_deadline_in_the_run_cancels(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """`canceled`, with the tokens so far; the stream ends with that reason."""
    given = {"prompt": "x [[tokens=20 boot_ms=0 first_ms=0 interval_ms=1000]]"}
    document = await frozen_clock_client.created(LLAMA, given, Cancel_After="7")
    await clock.advance(30)
    final = (await frozen_clock_client.get(document["urls"]["get"])).json
    assert final["status"] == "canceled"
    assert final["metrics"]["token_output_count"] == len(final["output"])
    assert 7 <= len(final["output"]) <= 8
    assert (await frozen_clock_client.events(document))[-1].data == '{"reason":"canceled"}'


async def test_a_deadline_after_the_end_does_nothing(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """What has succeeded stays so."""
    document = await frozen_clock_client.created(SCHNELL, {"prompt": "x"}, Cancel_After="1m")
    await clock.advance(120)
    assert (await frozen_clock_client.get(document["urls"]["get"])).json["status"] == "succeeded"


@pytest.mark.parametrize(
    "value", ["4", "4s", "0", "", "soon", "5 m", "-5s", "1h 30m", "5s5m", "\u0665\u0665", "\u0665s"]
)
async def test_deadlines_that_cannot_be_kept(sandbox_client: SandboxClient, value: str) -> None:
    """Less than five seconds, or no duration at all: 422, and nothing is created."""
    answer = await sandbox_client.create(LLAMA, {"prompt": "x"}, Cancel_After=value)
    assert answer.status == 422
    assert (await sandbox_client.get("/v1/predictions")).json["results"] == []


@given(st.integers(0, 99), st.integers(0, 999), st.integers(0, 9999))
@settings(deadline=None)
def test_durations_add_up(hours: int, minutes: int, seconds: int) -> None:
    """Every way to write a duration means the same number of seconds."""
    total = hours * 3600 + minutes * 60 + seconds
    for value in (f"{hours}h{minutes}m{seconds}s", f"{total}s", str(total)):
        if total < 5:
            with pytest.raises(ApiError):
                parse_cancel_after(value, 5)
        else:
            assert parse_cancel_after(value, 5) == total


@given(st.text())
@settings(deadline=None)
def test_any_header_is_read_or_refused(value: str) -> None:
    """No header text breaks the readers."""
    wait = parse_prefer(value)
    assert wait is None or 1 <= wait.seconds <= 60
    with contextlib.suppress(ApiError):
        seconds = parse_cancel_after(value, 5)
        assert seconds is not None
        assert seconds >= 5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("wait", 60), ("wait=10", 10), ("respond-async, wait=5", 5), ("WAIT=90", 60), ("wait=0", 1)],
)
def test_preferences(header: str, seconds: int) -> None:
    """Preferences come in lists; a wait is between one and sixty seconds."""
    parsed = parse_prefer(header)
    assert parsed is not None
    assert parsed.seconds == seconds


async def test_outputs_can_be_inlined_as_data_uris(open_sandbox: Opener) -> None:
    """As data URIs where that is set, in whatever form the output has; links everywhere else."""
    async with open_sandbox(inline_outputs=True, small_files=True) as caller:
        for slug, more in ((SCHNELL, {}), ("sandbox/new-shapes", {"strength": 1})):
            model = (await caller.get(f"/v1/models/{slug}")).json
            version = model["latest_version"]["id"]
            body = {"prompt": "x", "num_outputs": 2, **more}
            answer = (await caller.create(version, body, Prefer="wait")).json
            later = (await caller.get(answer["urls"]["get"])).json["output"]
            links = later if slug == SCHNELL else [each["file"] for each in later["variants"]]
            inline = answer["output"]
            inline = inline if slug == SCHNELL else [each["file"] for each in inline["variants"]]
            assert len(links) == len(inline) == 2
            for link, uri in zip(links, inline, strict=True):
                file = await caller.get(link)
                head = f"data:{file.headers['Content-Type']};base64,"
                assert uri == head + base64.b64encode(file.body).decode()
