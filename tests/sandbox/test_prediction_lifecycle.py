"""The life of a prediction: how it runs, ends, fails, is cancelled, and what it reports."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from random import Random

import pytest

from mediagate_sandbox.clock import ManualClock

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, TERMINAL, SandboxClient

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{2,9})Z")
SDXL = "stability-ai/sdxl:7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"


async def test_a_prediction_goes_from_starting_to_succeeded(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """Boot, run with logs, end; output, times and metrics come with the end."""
    document = await frozen_clock_client.created(SCHNELL, {"prompt": "a boat"})
    url = document["urls"]["get"]
    assert (await frozen_clock_client.get(url)).json["status"] == "starting"
    await clock.advance(0.21)
    running = (await frozen_clock_client.get(url)).json
    assert running["status"] == "processing"
    assert running["output"] is None
    assert running["logs"].startswith("Using seed: ")
    assert "metrics" not in running
    await clock.advance(10)
    done = (await frozen_clock_client.get(url)).json
    assert done["status"] == "succeeded"
    assert len(done["output"]) == 1
    assert "100%" in done["logs"]
    assert done["created_at"] < done["started_at"] < done["completed_at"]


async def test_text_grows_while_it_runs(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """A GET in the middle of a run shows the tokens so far."""
    given = {"prompt": "hi [[tokens=10 first_ms=1000 interval_ms=1000 boot_ms=0]]"}
    document = await frozen_clock_client.created(LLAMA, given)
    await clock.advance(3.5)
    running = (await frozen_clock_client.get(document["urls"]["get"])).json
    assert (running["status"], len(running["output"])) == ("processing", 3)


async def test_language_models_count_tokens_by_both_names(sandbox_client: SandboxClient) -> None:
    """Old and current metric names agree with the output, whatever the sandbox's speed."""
    document = await sandbox_client.ran(LLAMA, {"prompt": "x" * 40 + "[[tokens=46]]"})
    metrics = document["metrics"]
    assert len(document["output"]) == 46
    assert metrics["input_token_count"] == metrics["token_input_count"] == 10
    assert metrics["output_token_count"] == metrics["token_output_count"] == 46
    assert metrics["time_to_first_token"] == 0.25
    assert metrics["tokens_per_second"] == pytest.approx(45)
    assert metrics["predict_time"] == pytest.approx(0.25 + 45 / 45)
    assert metrics["total_time"] == pytest.approx(metrics["predict_time"] + 0.2)


@pytest.mark.parametrize(
    ("version", "given", "expected"),
    [
        (SCHNELL, {"prompt": "x", "num_outputs": 3}, {"image_output_count": 3, "image_count": 3}),
        (
            "minimax/hailuo-02",
            {"prompt": "x", "duration": 10, "resolution": "768p"},
            {
                "video_output_count": 1,
                "video_output_duration_seconds": 10.0,
                "resolution_target": "768p",
            },
        ),
        (
            "google/veo-3-fast",
            {"prompt": "x"},
            {
                "video_output_count": 1,
                "video_output_duration_seconds": 8.0,
                "resolution_target": "1080p",
                "with_audio": True,
            },
        ),
        (
            "stability-ai/stable-audio-2.5",
            {"prompt": "x", "duration": 7},
            {"audio_output_count": 1, "audio_output_duration_seconds": 7.0},
        ),
        (
            "minimax/speech-02-turbo",
            {"text": "x" * 28},
            {
                "audio_output_count": 1,
                "audio_output_duration_seconds": 2.0,
                "character_input_count": 28,
                "token_input_count": 28,
            },
        ),
        (SDXL, {"prompt": "x"}, {}),
    ],
)
async def test_metrics_of_each_kind(
    sandbox_client: SandboxClient,
    version: str,
    given: dict[str, object],
    expected: dict[str, object],
) -> None:
    """What is billed by the piece is counted; community models report time only."""
    metrics = (await sandbox_client.ran(version, given))["metrics"]
    assert metrics.pop("predict_time") > 0
    assert metrics.pop("total_time") > 0
    assert metrics == expected


async def test_predict_time_is_independent_of_the_time_scale(open_sandbox: Opener) -> None:
    """The same run reports the same predict_time, however fast the sandbox plays it."""
    times = set()
    for scale in (0, 0.001, 0.01):
        async with open_sandbox(time_scale=scale) as caller:
            times.add((await caller.ran(SDXL, {"prompt": "x"}))["metrics"]["predict_time"])
    (seconds,) = times
    assert 4.5 <= seconds <= 5.5


async def test_a_failed_prediction_has_its_error(sandbox_client: SandboxClient) -> None:
    """`failed` with the error's text, 200 on GET, metrics of what was done; or a null error."""
    given = {"prompt": "x [[fail=Prediction interrupted; please retry (code: PA)]]"}
    document = await sandbox_client.ran(SCHNELL, given)
    assert document["status"] == "failed"
    assert document["error"] == "Prediction interrupted; please retry (code: PA)"
    assert document["output"] is None
    assert set(document["metrics"]) == {"predict_time", "total_time"}
    document = await sandbox_client.ran(LLAMA, {"prompt": "x [[fail_after=4]]"})
    assert (document["status"], document["error"]) == ("failed", None)
    assert document["metrics"]["token_output_count"] == len(document["output"]) == 4


async def test_media_that_cannot_be_made_fails(sandbox_client: SandboxClient) -> None:
    """Where the schema allows what nothing can draw, the run fails and says why."""
    document = await sandbox_client.ran(SDXL, {"prompt": "x", "width": 100_000})
    assert document["status"] == "failed"
    assert "4096" in document["error"]
    musicgen = "671ac645ce5e552cc63a54a2bbff63fcf798043055d2dac5fc9e36a837eedcfb"
    document = await sandbox_client.ran(musicgen, {"prompt": "x", "duration": 0})
    assert document["status"] == "failed"


async def test_cancel_ends_at_once_and_bills_what_ran(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """The answer to the cancel is already canceled; time and tokens so far are counted."""
    given = {"prompt": "x [[tokens=10 boot_ms=0 first_ms=2000 interval_ms=2000]]"}
    document = await frozen_clock_client.created(LLAMA, given)
    await clock.advance(5)
    answer = await frozen_clock_client.send("POST", document["urls"]["cancel"])
    assert answer.status == 200
    canceled = answer.json
    assert canceled["status"] == "canceled"
    assert len(canceled["output"]) == 2
    assert canceled["metrics"]["token_output_count"] == 2
    assert canceled["metrics"]["predict_time"] == pytest.approx(5)
    assert canceled["completed_at"]
    await clock.advance(60)
    assert (await frozen_clock_client.get(document["urls"]["get"])).json == canceled


async def test_an_interrupted_run_reports_model_seconds(
    open_sandbox: Opener, clock: ManualClock
) -> None:
    """Half of a run at a hundredth of its time is still half of the model's seconds."""
    async with open_sandbox(clock, time_scale=0.01) as caller:
        full_run = await caller.created(SDXL, {"prompt": "x"})
        await clock.advance(10)
        seconds = (await caller.get(full_run["urls"]["get"])).json["metrics"]["predict_time"]
        half = await caller.created(SDXL, {"prompt": "x"})
        await clock.advance(0.002 + seconds * 0.01 / 2)
        answer = await caller.send("POST", half["urls"]["cancel"])
        assert answer.json["metrics"]["predict_time"] == pytest.approx(seconds / 2, rel=1e-3)


async def test_cancel_of_what_has_ended_changes_nothing(sandbox_client: SandboxClient) -> None:
    """200 and the prediction as it is; an unknown id is 404."""
    document = await sandbox_client.ran(SCHNELL, {"prompt": "x"})
    answer = await sandbox_client.send("POST", document["urls"]["cancel"])
    assert (answer.status, answer.json) == (200, document)
    assert (await sandbox_client.send("POST", "/v1/predictions/none/cancel")).status == 404


async def test_cancel_before_the_start(frozen_clock_client: SandboxClient) -> None:
    """A user's cancel is `canceled` even then, and no time was run."""
    document = await frozen_clock_client.created(SCHNELL, {"prompt": "x"})
    canceled = (await frozen_clock_client.send("POST", document["urls"]["cancel"])).json
    assert canceled["status"] == "canceled"
    assert canceled["metrics"]["predict_time"] == 0
    assert "started_at" not in canceled


async def test_a_hanging_run_ends_by_cancel(open_sandbox: Opener, clock: ManualClock) -> None:
    """Without a limit it runs on for hours; its time until then is its predict_time."""
    async with open_sandbox(clock, run_limit=None) as caller:
        document = await caller.created(SCHNELL, {"prompt": "x [[hang boot_ms=0]]"})
        await clock.advance(7200)
        assert (await caller.get(document["urls"]["get"])).json["status"] == "processing"
        canceled = (await caller.send("POST", document["urls"]["cancel"])).json
        assert canceled["metrics"]["predict_time"] == pytest.approx(7200)


@pytest.mark.parametrize("model", [LLAMA, SCHNELL])
async def test_a_hanging_run_ends_after_half_an_hour(
    frozen_clock_client: SandboxClient, clock: ManualClock, model: str
) -> None:
    """It fails then, and has run for exactly that long; its boot does not count."""
    document = await frozen_clock_client.created(model, {"prompt": "x [[hang boot_ms=500000]]"})
    await clock.advance(500 + 1799)
    assert (await frozen_clock_client.get(document["urls"]["get"])).json["status"] == "processing"
    await clock.advance(1)
    failed = (await frozen_clock_client.get(document["urls"]["get"])).json
    assert failed["status"] == "failed"
    assert failed["error"] == "Prediction timed out after 1800 seconds"
    assert failed["metrics"]["predict_time"] == pytest.approx(1800)


async def test_the_limit_counts_the_model_s_own_seconds(
    open_sandbox: Opener, clock: ManualClock
) -> None:
    """A run at a hundredth of its time meets a limit of two seconds after a hundredth of that."""
    async with open_sandbox(clock, time_scale=0.01, run_limit=2) as caller:
        document = await caller.created(SDXL, {"prompt": "x"})
        await clock.advance(0.002 + 0.019)
        assert (await caller.get(document["urls"]["get"])).json["status"] == "processing"
        await clock.advance(0.001)
        failed = (await caller.get(document["urls"]["get"])).json
        assert (failed["status"], failed["output"]) == ("failed", None)
        assert failed["metrics"]["predict_time"] == pytest.approx(2)
        given = {"prompt": "x [[tokens=30 first_ms=0 interval_ms=1000 boot_ms=0]]"}
        text = await caller.created(LLAMA, given)
        await clock.advance(30)
        failed = (await caller.get(text["urls"]["get"])).json
        assert (failed["status"], len(failed["output"])) == ("failed", 3)
        assert failed["metrics"]["predict_time"] == pytest.approx(2)


async def test_timestamps_vary_in_length_and_never_in_order(sandbox_client: SandboxClient) -> None:
    """Two to nine fraction digits, always Z, the same number within one prediction."""
    lengths = set()
    for number in range(40):
        document = await sandbox_client.ran(LLAMA, {"prompt": f"{number} [[tokens=1]]"})
        moments = [document[name] for name in ("created_at", "started_at", "completed_at")]
        matches = [TIMESTAMP.fullmatch(moment) for moment in moments]
        digits = {len(each.group(1)) for each in matches if each}
        assert len(digits) == 1, moments
        assert moments == sorted(moments)
        assert all(datetime.fromisoformat(moment) for moment in moments)
        lengths |= digits
    assert lengths <= {2, 3, 4, 5, 6, 8, 9}
    assert len(lengths) > 2


async def test_cold_boots_delay_the_first_run_of_a_community_model(
    open_sandbox: Opener, clock: ManualClock
) -> None:
    """The second run finds the model warm; total_time tells the difference."""
    async with open_sandbox(clock, time_scale=1, cold_boots=True) as caller:
        first = await caller.created(SDXL, {"prompt": "x"})
        await clock.advance(70)
        assert (await caller.get(first["urls"]["get"])).json["status"] == "starting"
        second = await caller.created(SDXL, {"prompt": "x"})
        await clock.advance(20)
        totals = [
            (await caller.get(each["urls"]["get"])).json["metrics"]["total_time"]
            for each in (first, second)
        ]
        assert totals[0] - totals[1] == pytest.approx(74.8)


async def test_large_inputs_are_removed_sooner(open_sandbox: Opener) -> None:
    """Inlined files count by their size."""
    async with open_sandbox(keep_bytes=5000) as caller:
        large = {"prompt": "x", "image": "data:image/png;base64," + "A" * 3000}
        model = "black-forest-labs/flux-dev"
        first, second = await caller.ran(model, large), await caller.ran(model, large)
        assert (await caller.get(first["urls"]["get"])).status == 404
        assert (await caller.get(second["urls"]["get"])).status == 200


@pytest.mark.parametrize("seed", range(25))
async def test_any_order_of_events_ends_once(
    frozen_clock_client: SandboxClient, clock: ManualClock, seed: int
) -> None:
    """Cancels, deadlines and ends, however they meet: one end, and counts that agree."""
    print("seed", seed)
    random = Random(seed)
    tokens, interval = random.randint(0, 8), random.choice([0, 500, 1000])
    prompt = f"x [[tokens={tokens} boot_ms={random.choice([0, 3000])} first_ms={interval}]]"
    prompt += f"[[interval_ms={interval}]]" + random.choice(["", "[[fail=no]]", "[[hang_after=2]]"])
    headers = random.choice([{}, {"Cancel_After": "5"}])
    document = await frozen_clock_client.created(LLAMA, {"prompt": prompt}, **headers)
    for _ in range(4):
        await clock.advance(random.choice([0, 0.5, 1, 2]))
        if random.random() < 0.3:
            await frozen_clock_client.send("POST", document["urls"]["cancel"])
    await clock.advance(10)
    await frozen_clock_client.send("POST", document["urls"]["cancel"])
    final = (await frozen_clock_client.get(document["urls"]["get"])).json
    assert final["status"] in TERMINAL
    output = final["output"] or []
    assert final["metrics"]["token_output_count"] == len(output)
    assert final["metrics"]["predict_time"] <= final["metrics"]["total_time"] <= 18
    events = await frozen_clock_client.events(document)
    assert [each.data for each in events if each.name == "output"] == output
    assert [each.name for each in events].count("done") == 1
    await clock.advance(10)
    assert (await frozen_clock_client.get(document["urls"]["get"])).json == final


async def test_a_caller_that_leaves_a_synchronous_create(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """The prediction it never heard of runs on, and is in the list."""
    leaving = asyncio.create_task(
        frozen_clock_client.create(SCHNELL, {"prompt": "x"}, Prefer="wait")
    )
    await clock.sleeping(2)
    leaving.cancel()
    await asyncio.wait([leaving])
    await clock.advance(30)
    (document,) = (await frozen_clock_client.get("/v1/predictions")).json["results"]
    assert document["status"] == "succeeded"


async def test_old_predictions_are_removed(open_sandbox: Opener) -> None:
    """Only so many ended ones are kept; their files go with them."""
    async with open_sandbox(keep_predictions=2) as caller:
        documents = [await caller.ran(SCHNELL, {"prompt": str(number)}) for number in range(3)]
        last = await caller.created(SCHNELL, {"prompt": "last"})
        statuses = [(await caller.get(each["urls"]["get"])).status for each in documents]
        assert statuses == [404, 404, 200]
        assert (await caller.get(documents[0]["output"][0])).status == 404
        assert (await caller.ended(last))["status"] in TERMINAL
