"""Faults that strike requests and answers, seen from the other end of the connection."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from mediagate_sandbox.clock import ManualClock

from .fault_orders import Fault, bill, fired, order
from .sandbox_client import LLAMA, SCHNELL, Answer, SandboxClient

ANSWERED = ["create", "get", "cancel", "list", "output", "files", "secret", "model"]
CALLED = [*ANSWERED, "stream"]


async def struck(caller: SandboxClient, endpoint: str, fault: Fault) -> Answer:
    """The answer to one request that the fault strikes; what it is about is made before."""
    given = {"prompt": "x [[run_ms=0]]"}
    prediction: Any = await caller.ran(LLAMA if endpoint == "stream" else SCHNELL, given)
    await order(caller, fault | {"on": endpoint})
    match endpoint:
        case "create":
            return await caller.create(LLAMA, {"prompt": "x"})
        case "cancel":
            return await caller.send("POST", prediction["urls"]["cancel"])
    url = {
        "get": prediction["urls"]["get"],
        "list": "/v1/predictions",
        "output": prediction["output"][0],
        "files": "/v1/files",
        "secret": "/v1/webhooks/default/secret",
        "model": f"/v1/models/{LLAMA}",
        "stream": prediction["urls"].get("stream"),
    }
    return await caller.get(url[endpoint])


async def creates(caller: SandboxClient) -> int:
    """How many creates were accepted, but for the one that `struck` begins with."""
    return len(await bill(caller)) - 1


@pytest.mark.parametrize("endpoint", CALLED)
async def test_refuse_resets_before_anything_is_done(
    sandbox_client: SandboxClient, endpoint: str
) -> None:
    """The connection is reset, not closed, and nothing was accepted."""
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await struck(sandbox_client, endpoint, {"do": "refuse"})
    assert await creates(sandbox_client) == 0
    # The client sends what is safe to repeat a second time by itself.
    assert {each["on"] for each in await fired(sandbox_client)} == {endpoint}


@pytest.mark.parametrize("endpoint", ANSWERED)
async def test_lose_answer_accepts_without_a_response(
    sandbox_client: SandboxClient, endpoint: str
) -> None:
    """Not one byte comes back, and a create was accepted all the same."""
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await struck(sandbox_client, endpoint, {"do": "lose_answer"})
    assert await creates(sandbox_client) == (endpoint == "create")


async def test_accept_late_answers_an_error_and_accepts_later(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """The error comes at once, in the API's own JSON; the prediction is made later, and billed."""
    await order(
        frozen_clock_client, {"do": "accept_late", "on": "create", "ms": 20_000, "status": 503}
    )
    answer = await frozen_clock_client.create(LLAMA, {"prompt": "x"})
    assert answer.status == 503
    assert answer.json["status"] == 503
    await clock.advance(19.5)
    assert not await bill(frozen_clock_client)
    await clock.advance(0.5)
    assert len(await bill(frozen_clock_client)) == 1


async def test_list_late_hides_a_prediction_for_a_while(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """It runs and is billed; only the list does not show it yet."""
    await order(frozen_clock_client, {"do": "list_late", "on": "create", "ms": 90_000})
    prediction = await frozen_clock_client.created(LLAMA, {"prompt": "[[hang]]"})
    assert len(await bill(frozen_clock_client)) == 1

    async def listed() -> list[str]:
        page = await frozen_clock_client.get("/v1/predictions")
        return [each["id"] for each in page.json["results"]]

    await clock.advance(89)
    assert prediction["id"] not in await listed()
    await clock.advance(1)
    assert prediction["id"] in await listed()


@pytest.mark.parametrize("endpoint", ANSWERED)
async def test_reset_body_truncates_the_response(
    sandbox_client: SandboxClient, endpoint: str
) -> None:
    """Status, headers and the first bytes come, then the connection is reset."""
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        await struck(sandbox_client, endpoint, {"do": "reset_body", "after_bytes": 10})
    assert await creates(sandbox_client) == (endpoint == "create")


async def test_reset_body_sends_so_many_bytes(sandbox_client: SandboxClient) -> None:
    """Exactly the first ones of the body, under the length of the whole."""
    url = f"{sandbox_client.sandbox.url}/v1/models/{LLAMA}"
    headers = {"Authorization": "Bearer any"}
    async with sandbox_client.session.get(url, headers=headers) as complete:
        body = await complete.read()
    await order(sandbox_client, {"do": "reset_body", "on": "model", "after_bytes": 40})
    async with sandbox_client.session.get(url, headers=headers) as broken:
        assert broken.content_length == len(body)
        assert await broken.content.readexactly(40) == body[:40]
        with pytest.raises(aiohttp.ClientError):
            await broken.content.read()


@pytest.mark.parametrize("endpoint", CALLED)
@pytest.mark.parametrize("retry_after", [None, 7])
async def test_throttle_with_and_without_a_hint(
    sandbox_client: SandboxClient, endpoint: str, retry_after: int | None
) -> None:
    """429 in Replicate's words; the hint is in the header and in the body, or in neither."""
    fault = {"do": "throttle"} | ({} if retry_after is None else {"retry_after": retry_after})
    answer = await struck(sandbox_client, endpoint, fault)
    assert answer.status == 429
    assert answer.json["detail"].startswith("Request was throttled.")
    hint = None if retry_after is None else str(retry_after)
    assert answer.headers.get("Retry-After") == hint
    assert answer.json.get("retry_after") == retry_after
    assert await creates(sandbox_client) == 0


@pytest.mark.parametrize(
    ("fault", "reset"),
    [
        ({"do": "throttle", "retry_after": 7}, "7"),
        ({"do": "throttle"}, None),
        ({"do": "error", "status": 429}, None),
    ],
)
async def test_an_ordered_429_is_consistent(
    sandbox_client: SandboxClient, fault: Fault, reset: str | None
) -> None:
    """Nothing is left, until the hint says so; what is really left is told by the next answer."""
    answer = await struck(sandbox_client, "create", fault)
    assert answer.status == 429
    assert answer.headers["ratelimit-remaining"] == "0"
    assert answer.headers.get("ratelimit-reset") == reset
    await order(sandbox_client)
    assert (
        int((await sandbox_client.create(LLAMA, {"prompt": "x"})).headers["ratelimit-remaining"])
        > 500
    )
    # Recorded answers about files tell nothing of limits, refused or not.
    assert "ratelimit-remaining" not in (await struck(sandbox_client, "files", fault)).headers


@pytest.mark.parametrize("status", [400, 404, 408, 500, 502, 503, 504])
@pytest.mark.parametrize(("at", "accepted"), [("request", 0), ("answer", 1)])
async def test_error_before_or_after_accepting(
    sandbox_client: SandboxClient, status: int, at: str, accepted: int
) -> None:
    """The same answer, and either nothing was made or a prediction runs. Proxies speak HTML."""
    answer = await struck(sandbox_client, "create", {"do": "error", "status": status, "at": at})
    assert answer.status == status
    is_page = answer.headers["Content-Type"].startswith("text/html")
    assert is_page == (status in (502, 504))
    assert await creates(sandbox_client) == accepted


@pytest.mark.parametrize("endpoint", CALLED)
async def test_error_anywhere(sandbox_client: SandboxClient, endpoint: str) -> None:
    """Every endpoint can fail."""
    assert (await struck(sandbox_client, endpoint, {"do": "error", "status": 503})).status == 503


@pytest.mark.parametrize("endpoint", CALLED)
async def test_redirect_elsewhere(sandbox_client: SandboxClient, endpoint: str) -> None:
    """Where it says, with the status it says; nothing was done."""
    url = sandbox_client.sandbox.url + "/elsewhere"
    fault = {"do": "redirect", "location": url, "status": 307}
    assert (await struck(sandbox_client, endpoint, fault)).status == 404
    assert await creates(sandbox_client) == 0
    async with sandbox_client.session.get(
        f"{sandbox_client.sandbox.url}/v1/models/{LLAMA}",
        headers={"Authorization": "Bearer any"},
        allow_redirects=False,
    ) as plain:
        assert plain.status == (307 if endpoint == "model" else 200)
        assert plain.headers.get("Location") == (url if endpoint == "model" else None)


@pytest.mark.parametrize("endpoint", ANSWERED)
async def test_garbage_instead_of_an_answer(sandbox_client: SandboxClient, endpoint: str) -> None:
    """The right status and type, and nothing that can be read; a create was accepted."""
    answer = await struck(sandbox_client, endpoint, {"do": "garbage"})
    assert answer.status in (200, 201)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.body)
    assert await creates(sandbox_client) == (endpoint == "create")


async def test_custom_garbage(sandbox_client: SandboxClient) -> None:
    """Exactly the text, such as an answer that lacks what matters."""
    answer = await struck(
        sandbox_client, "create", {"do": "garbage", "text": '{"status": "starting"}'}
    )
    assert (answer.status, answer.json) == (201, {"status": "starting"})


async def test_garbage_is_drawn_from_the_seed(sandbox_client: SandboxClient) -> None:
    """The same plan makes the same noise."""
    noises = set()
    for seed in (1, 1, 2):
        await order(sandbox_client, {"do": "garbage", "on": "model"}, seed=seed)
        noises.add((await sandbox_client.get(f"/v1/models/{LLAMA}")).body)
    assert len(noises) == 2


@pytest.mark.parametrize(("at", "accepted"), [("request", 0), ("answer", 1)])
async def test_delay_before_or_after_accepting(
    frozen_clock_client: SandboxClient, clock: ManualClock, at: str, accepted: int
) -> None:
    """The answer comes when the time has passed, not sooner."""
    await order(frozen_clock_client, {"do": "delay", "on": "create", "ms": 5000, "at": at})
    waiting = asyncio.create_task(
        frozen_clock_client.create(LLAMA, {"prompt": "x [[hang boot_ms=0]]"})
    )
    await clock.sleeping(1)
    await clock.advance(4.9)
    assert not waiting.done()
    assert len(await bill(frozen_clock_client)) == accepted
    await clock.advance(0.2)
    assert (await waiting).status == 201


@pytest.mark.parametrize(("at", "accepted"), [("request", 0), ("answer", 1)])
async def test_hang_until_the_caller_leaves(
    sandbox_client: SandboxClient, at: str, accepted: int
) -> None:
    """No answer ever; other requests are served meanwhile, and the sandbox still stops."""
    await order(sandbox_client, {"do": "hang", "on": "create", "at": at})
    waiting = asyncio.create_task(sandbox_client.create(LLAMA, {"prompt": "x"}))
    while not await fired(sandbox_client) or len(await bill(sandbox_client)) < accepted:
        continue
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(await bill(sandbox_client)) == accepted
