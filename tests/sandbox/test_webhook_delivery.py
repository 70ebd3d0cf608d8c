"""Webhooks: what is sent, signed how, when, and what happens if nobody wants it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import orjson
import pytest

from mediagate_sandbox.clock import ManualClock
from mediagate_sandbox.webhook_delivery import Delivery, DeliveryAttempt, retry_delays

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient
from .webhook_receiver import Received, Receiver, receiving

TEXT = "x [[tokens=10 boot_ms=1000 first_ms=0 interval_ms=200]]"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def order(
    caller: SandboxClient, receiver: Receiver, prompt: str, *events: str, **more: Any
) -> Any:
    """A prediction with a webhook; without events none are named."""
    body = {"version": LLAMA, "input": {"prompt": prompt}, "webhook": receiver.url, **more}
    if events:
        body["webhook_events_filter"] = list(events)
    answer = await caller.send("POST", "/v1/predictions", body)
    assert answer.status == 201, answer.body
    return answer.json


def signed_with(secret: str, got: Received) -> bool:
    """Whether one of the signatures is that of this secret, worked out here from the standard."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((got.id.encode(), got.headers["webhook-timestamp"].encode(), got.body))
    right = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{right}" in got.headers["webhook-signature"].split(" ")


async def test_it_shows_what_get_shows(sandbox_client: SandboxClient, receiver: Receiver) -> None:
    """The terminal webhook's body is the prediction, as JSON, signed."""
    document = await order(sandbox_client, receiver, "x [[tokens=3]]", "completed")
    got = await receiver.next()
    assert got.json == await sandbox_client.ended(document)
    assert got.headers["Content-Type"] == "application/json"
    secret = (await sandbox_client.get("/v1/webhooks/default/secret")).json["key"]
    assert signed_with(secret, got)
    assert not signed_with("whsec_" + base64.b64encode(b"x" * 24).decode(), got)


async def test_output_and_the_end_by_default(
    frozen_clock_client: SandboxClient, receiver: Receiver, clock: ManualClock
) -> None:
    """Two seconds of tokens, one webhook per half second and one at the end; none at the start."""
    await order(frozen_clock_client, receiver, TEXT)
    await clock.advance(1.0)
    deliveries = [await receiver.next()]
    for _ in range(3):
        await clock.advance(0.5)
        deliveries.append(await receiver.next())
    assert [len(each.json["output"]) for each in deliveries] == [1, 3, 6, 8]
    assert {each.json["status"] for each in deliveries} == {"processing"}
    await clock.advance(5)
    last = await receiver.next()
    assert (last.json["status"], len(last.json["output"])) == ("succeeded", 10)
    state = await frozen_clock_client.state()
    assert [each["events"] for each in state["webhooks"]] == [["output"]] * 4 + [["completed"]]
    assert len({each.id for each in receiver.all}) == len(receiver.all) == 5


async def test_start_and_completed_only(sandbox_client: SandboxClient, receiver: Receiver) -> None:
    """Both are told however close they are, each as things stood then."""
    await order(sandbox_client, receiver, "x [[tokens=50 interval_ms=0]]", "start", "completed")
    first, last = await receiver.until("succeeded")
    assert (first.json["status"], first.json["output"]) == ("processing", None)
    assert len(last.json["output"]) == 50


async def test_logs_and_output_share_one_pace(
    frozen_clock_client: SandboxClient, receiver: Receiver, clock: ManualClock
) -> None:
    """A picture logs five lines and ends with its output; half a second lies between any two."""
    await order(
        frozen_clock_client,
        receiver,
        "x [[run_ms=800 boot_ms=0]]",
        "logs",
        "output",
        version=SCHNELL,
    )
    await clock.advance(0)
    first = await receiver.next()
    assert first.json["logs"].count("\n") == 1
    await clock.advance(0.5)
    second = await receiver.next()
    assert second.json["logs"].count("\n") == 3
    assert second.json["output"] is None
    await clock.advance(0.5)
    third = await receiver.next()
    assert (third.json["status"], len(third.json["output"])) == ("succeeded", 1)
    events = [each["events"] for each in (await frozen_clock_client.state())["webhooks"]]
    assert events == [["logs"], ["logs"], ["logs", "output"]]


async def test_a_picture_is_told_before_its_end(
    sandbox_client: SandboxClient, receiver: Receiver
) -> None:
    """Output first, while it still says processing, as a synchronous create has it."""
    await order(sandbox_client, receiver, "x", version=SCHNELL)
    first, last = await receiver.until("succeeded")
    assert first.json["status"] == "processing"
    assert first.json["output"] == last.json["output"]
    assert "metrics" not in first.json


@pytest.mark.parametrize(
    ("prompt", "status"), [("x [[fail=E1001: no]]", "failed"), ("x [[hang]]", "canceled")]
)
async def test_every_end_is_told(
    sandbox_client: SandboxClient, receiver: Receiver, prompt: str, status: str
) -> None:
    """Failure and cancel complete a prediction as well."""
    document = await order(sandbox_client, receiver, prompt, "completed")
    if status == "canceled":
        await sandbox_client.send("POST", document["urls"]["cancel"])
    assert (await receiver.next()).json["status"] == status


async def test_only_the_last_one_is_retried(
    frozen_clock_client: SandboxClient, receiver: Receiver, clock: ManualClock
) -> None:
    """Same id, signed anew each time, further and further apart, for a minute; then never again."""
    receiver.answers = [500] * 20
    document = await order(frozen_clock_client, receiver, "x [[tokens=1 boot_ms=0 first_ms=0]]")
    await clock.advance(0)
    output, last = await receiver.next(), await receiver.next()
    tries = [last]
    before = 0.0
    for delay in retry_delays(60):
        await clock.sleeping(1)
        await clock.advance(delay - before)
        before = delay
        tries.append(await receiver.next())
    assert before == 60
    await clock.advance(3600)
    assert len(receiver.all) == 8
    assert {each.id for each in tries} == {last.id} != {output.id}
    secret = (await frozen_clock_client.get("/v1/webhooks/default/secret")).json["key"]
    assert all(signed_with(secret, each) for each in tries)
    sent = [int(each.headers["webhook-timestamp"]) for each in tries]
    assert sent[-1] - sent[0] == 60
    webhooks = (await frozen_clock_client.state())["webhooks"]
    assert [len(each["attempts"]) for each in webhooks] == [1, 7]
    assert {each["prediction"] for each in webhooks} == {document["id"]}


async def test_a_retry_that_is_taken_is_the_last(
    frozen_clock_client: SandboxClient, receiver: Receiver, clock: ManualClock
) -> None:
    """After a 2xx nothing more is sent."""
    receiver.answers = [200, 503, 404]
    await order(frozen_clock_client, receiver, "x [[tokens=1 boot_ms=0 first_ms=0]]")
    await clock.advance(0)
    for _ in range(2):
        await receiver.next()
    for _ in range(2):
        await clock.sleeping(1)
        await clock.advance(2)
        await receiver.next()
    await clock.advance(100)
    outcomes = [
        each["outcome"] for each in (await frozen_clock_client.state())["webhooks"][1]["attempts"]
    ]
    assert outcomes == [503, 404, 200]


async def test_redirects_are_not_followed(
    sandbox_client: SandboxClient, receiver: Receiver
) -> None:
    """The place a redirect names never hears of anything, and nothing is sent again."""
    receiver.answers = [307]
    document = await order(sandbox_client, receiver, "x [[tokens=1]]", "completed")
    await receiver.next()
    await order(sandbox_client, receiver, "x [[tokens=1]]", "completed")
    await receiver.next()
    assert [each.path for each in receiver.all] == ["/hook", "/hook"]
    (seen,) = (
        e for e in (await sandbox_client.state())["webhooks"] if e["prediction"] == document["id"]
    )
    assert [each["outcome"] for each in seen["attempts"]] == [307]


async def test_who_does_not_answer_in_time(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """A receiver that takes the request and is silent is given up, and tried again."""
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        body = {
            "version": LLAMA,
            "input": {"prompt": "x [[tokens=1 boot_ms=0 first_ms=0]]"},
            "webhook": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "webhook_events_filter": ["completed"],
        }
        await frozen_clock_client.send("POST", "/v1/predictions", body)
        await clock.advance(0)
        await clock.sleeping(1)
        await clock.advance(6)
        (seen,) = (await frozen_clock_client.state())["webhooks"]
        assert [each["outcome"] for each in seen["attempts"]][:1] == ["timeout"]
        assert len(seen["attempts"]) == 2
    finally:
        silent.close()


async def test_nobody_listens(open_sandbox: Opener) -> None:
    """A refused connection is recorded by kind, and retried like a 5xx."""
    with socket.create_server(("127.0.0.1", 0)) as closed_socket:
        port = closed_socket.getsockname()[1]
    async with open_sandbox(webhook_retry_span=0) as caller:
        body = {"version": SCHNELL, "input": {"prompt": "x"}, "webhook": f"http://[::1]:{port}/"}
        body["webhook_events_filter"] = ["completed"]
        assert (await caller.send("POST", "/v1/predictions", body)).status == 201
        while True:
            webhooks = (await caller.state())["webhooks"]
            outcomes = [each["outcome"] for seen in webhooks for each in seen["attempts"]]
            if len(outcomes) == 7 and None not in outcomes:
                break
            await asyncio.sleep(0)
        assert set(outcomes) == {"ClientConnectorError"}


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/x",
        "ftp://127.0.0.1/",
        "not a url",
        "",
        "https://",
        "//127.0.0.1",
        "https://xn--a/",
        "https://a b/",
        "https://a/\x00",
        "http://127.0.0.1:99999/",
        "http://[::1",
    ],
)
async def test_where_webhooks_may_not_go(sandbox_client: SandboxClient, url: str) -> None:
    """Nothing but https, or http on this machine: a 422 that names the field."""
    body = {"version": LLAMA, "input": {"prompt": "x"}, "webhook": url}
    answer = await sandbox_client.send("POST", "/v1/predictions", body)
    assert answer.status == 422
    assert [each["field"] for each in answer.json["invalid_fields"]] == ["webhook"]
    assert (await sandbox_client.state())["creates"]["total"] == 0


async def test_http_to_anywhere_is_a_setting(open_sandbox: Opener) -> None:
    """Between containers there is no loopback."""
    async with open_sandbox(webhooks_over_http=True) as caller:
        body = {
            "version": LLAMA,
            "input": {"prompt": "x [[hang boot_ms=9999]]"},
            "webhook": "http://gate/x",
        }
        assert (await caller.send("POST", "/v1/predictions", body)).status == 201


async def test_a_secret_of_ones_own(open_sandbox: Opener, receiver: Receiver) -> None:
    """Told to the sandbox, shown by it, used by it; two sandboxes else have two."""
    secret = "whsec_" + base64.b64encode(b"0123456789abcdefghijklmn").decode()
    async with open_sandbox(webhook_secret=secret) as caller:
        assert (await caller.get("/v1/webhooks/default/secret")).json == {"key": secret}
        await order(caller, receiver, "x", "completed")
        assert signed_with(secret, await receiver.next())
    async with open_sandbox() as first, open_sandbox() as second:
        keys = {(await each.get("/v1/webhooks/default/secret")).body for each in (first, second)}
        assert len(keys) == 2


async def test_the_secret_needs_a_token(sandbox_client: SandboxClient) -> None:
    """As everything under /v1 does."""
    answer = await sandbox_client.send("GET", "/v1/webhooks/default/secret", Authorization="")
    assert answer.status == 401


async def test_rotation(
    frozen_clock_client: SandboxClient, receiver: Receiver, clock: ManualClock
) -> None:
    """The new secret counts at once; the old one only as long as the overlap lasts."""
    old = (await frozen_clock_client.get("/v1/webhooks/default/secret")).json["key"]
    new = (
        await frozen_clock_client.send("POST", "/sandbox/webhooks/secret", {"overlap_seconds": 60})
    ).json["key"]
    assert new != old
    assert (await frozen_clock_client.get("/v1/webhooks/default/secret")).json["key"] == new

    async def signatures_that_match() -> tuple[bool, bool]:
        await order(
            frozen_clock_client, receiver, "x [[tokens=1 boot_ms=0 first_ms=0]]", "completed"
        )
        await clock.advance(0)
        got = await receiver.next()
        return signed_with(old, got), signed_with(new, got)

    assert await signatures_that_match() == (True, True)
    await clock.advance(61)
    assert await signatures_that_match() == (False, True)
    answer = await frozen_clock_client.send("POST", "/sandbox/webhooks/secret", {"key": old})
    assert answer.json == {"key": old}
    assert await signatures_that_match() == (True, False)


@pytest.mark.parametrize(
    "body",
    [{"key": "whsec_!"}, {"key": "abc"}, {"key": 7}, {"overlap_seconds": -1}, {"what": 1}, [],
     {"overlap_seconds": True}],
)  # fmt: skip
async def test_rotation_with_nonsense(sandbox_client: SandboxClient, body: Any) -> None:
    """400, and the old secret stays."""
    before = (await sandbox_client.get("/v1/webhooks/default/secret")).json
    assert (await sandbox_client.send("POST", "/sandbox/webhooks/secret", body)).status == 400
    assert (await sandbox_client.get("/v1/webhooks/default/secret")).json == before


@pytest.mark.parametrize("turn", range(20))
async def test_any_pace_of_events(
    frozen_clock_client: SandboxClient, clock: ManualClock, turn: int, seed: int
) -> None:
    """However events fall: half a second between output and logs, one start, one end, the last."""
    random = Random(seed + turn)
    lost_attempts = list[tuple[float, Delivery]]()

    def lost(delivery: Delivery) -> tuple[DeliveryAttempt, ...]:
        lost_attempts.append((clock.monotonic(), delivery))
        return ()

    frozen_clock_client.sandbox.deliverer.policy = lost
    events_filter = random.sample(["start", "output", "logs", "completed"], random.randint(1, 4))
    prompt = f"x [[tokens={random.randint(0, 30)} interval_ms={random.choice([0, 30, 400, 700])}]]"
    prompt += random.choice(["", "[[fail_after=5]]", "[[run_ms=900]]", "[[boot_ms=0]]"])
    body = {
        "version": random.choice([LLAMA, SCHNELL]),
        "input": {"prompt": prompt},
        "webhook": "http://127.0.0.1:9/",
        "webhook_events_filter": events_filter,
    }
    document = (await frozen_clock_client.send("POST", "/v1/predictions", body)).json
    await clock.advance(60)
    final = (await frozen_clock_client.get(document["urls"]["get"])).json
    events = [each.events for _, each in lost_attempts]
    assert {name for each in events for name in each} <= set(events_filter)
    paced = [at for at, each in lost_attempts if set(each.events) & {"output", "logs"}]
    assert all(later - sooner > 0.499 for sooner, later in pairwise(paced))
    for name in ("start", "completed"):
        assert events.count((name,)) == (name in events_filter)
    last: Any = orjson.loads(lost_attempts[-1][1].body) if lost_attempts else None
    if "completed" in events_filter:
        assert (events[-1], last) == (("completed",), final)
    elif paced and "output" in events_filter:
        assert last["output"] == final["output"]


async def test_a_fate_decides(
    frozen_clock_client: SandboxClient, receiver: Receiver, clock: ManualClock
) -> None:
    """Lost, repeated, overtaken, late and forged: each is a posting or the want of one."""
    deliveries = frozen_clock_client.sandbox.deliverer
    secret = (await frozen_clock_client.get("/v1/webhooks/default/secret")).json["key"]
    fates: dict[str, tuple[DeliveryAttempt, ...]] = {"start": (), "output": (), "completed": ()}
    deliveries.policy = lambda delivery: fates[delivery.events[0]]

    async def run(**change: tuple[DeliveryAttempt, ...]) -> None:
        fates.update({"start": (), "output": (), "completed": ()} | change)
        prompt = "x [[tokens=1 boot_ms=0 first_ms=0]]"
        await order(frozen_clock_client, receiver, prompt, "start", "output", "completed")
        await clock.advance(0)

    await run(start=(DeliveryAttempt(after_next=True),), output=(DeliveryAttempt(),))
    assert [(await receiver.next()).json["output"] is None for _ in range(2)] == [False, True]
    await run(completed=(DeliveryAttempt(),) * 5)
    assert len({(await receiver.next()).id for _ in range(5)}) == 1
    await run(completed=(DeliveryAttempt(forged=True), DeliveryAttempt(body=b"{}")))
    assert not signed_with(secret, await receiver.next())
    assert signed_with(secret, await receiver.next())
    await run(start=(DeliveryAttempt(delay=30),), completed=(DeliveryAttempt(),))
    assert (await receiver.next()).json["status"] == "succeeded"
    await clock.advance(30)
    assert (await receiver.next()).json["status"] == "processing"
    assert len(receiver.all) == 11


def test_a_delivery_of_the_end_is_terminal() -> None:
    """Whatever status it shows: without `completed` it is not retried."""
    fields = {"id": "m", "prediction": "p", "model": "a/b", "status": "succeeded"}
    assert Delivery(events=("completed",), url="", body=b"", **fields).terminal
    assert not Delivery(events=("output",), url="", body=b"", **fields).terminal


def test_retries_take_about_a_minute() -> None:
    """Each distance is twice the one before it; the last retry is where the span ends."""
    delays = retry_delays(timedelta(minutes=1).total_seconds())
    gaps = [later - sooner for sooner, later in pairwise((0.0, *delays))]
    assert delays[-1] == 60
    assert all(wide == pytest.approx(2 * narrow) for narrow, wide in pairwise(gaps))
