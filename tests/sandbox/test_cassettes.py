"""Cassettes: how a replay answers, and what becomes of a recording that is cut off or damaged."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError

from mediagate_sandbox.cassettes.server import CassetteServer, recorder, replayer
from mediagate_sandbox.cassettes.upstream_client import UpstreamClient
from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_sandbox.webhook_signing import WebhookSigner
from tests.sandbox_process import INSTANT

from .cassette_traffic import Traffic, open_traffic
from .sandbox_client import LLAMA, SCHNELL, parse_events
from .webhook_receiver import receiving


@asynccontextmanager
async def recording(
    path: Path, settings: SandboxSettings = INSTANT, **more: Any
) -> AsyncIterator[tuple[Traffic, Sandbox]]:
    """A client of a recorder, and the sandbox behind it."""
    async with (
        Sandbox(settings) as sandbox,
        recorder(path, replace(INSTANT, **more), upstream=sandbox.url) as server,
        open_traffic(server.url) as traffic,
    ):
        yield traffic, sandbox


@asynccontextmanager
async def replaying(path: Path, **more: Any) -> AsyncIterator[tuple[Traffic, CassetteServer]]:
    """A client of a replay."""
    async with (
        replayer(path, replace(INSTANT, **more)) as server,
        open_traffic(server.url) as traffic,
    ):
        yield traffic, server


@pytest.fixture(scope="module")
def made_cassette(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cassette with a text, the same text again, a picture, an upload and a polled model."""
    path = tmp_path_factory.mktemp("cassettes") / "made.jsonl"

    async def record() -> None:
        async with recording(path) as (traffic, _):
            for _ in range(2):
                given = {"prompt": "a boat at dawn [[tokens=6]]", "max_tokens": 10}
                await traffic.end(await traffic.create(LLAMA, given))
            given = {"prompt": "a lake", "num_outputs": 1, "go_fast": True, "seed": 7}
            await traffic.end(await traffic.create(SCHNELL, given))
            await traffic.create(SCHNELL, {"prompt": "x", "num_outputs": 99})
            form = aiohttp.FormData()
            form.add_field("content", b"hello", filename="a.txt")
            await traffic.send("POST", "/v1/files", data=form)
            await traffic.send("GET", f"/v1/models/{SCHNELL}")

    asyncio.run(record())
    return path


def boat(**other: Any) -> dict[str, Any]:
    return {"prompt": "a boat at dawn [[tokens=6]]", "max_tokens": 10, **other}


@pytest.mark.parametrize(
    ("model", "given", "field", "message"),
    [
        (LLAMA, boat(prompt="a boat at dusk"), "input.prompt", 'came "a boat at dusk"'),
        (LLAMA, boat(max_tokens=11), "input.max_tokens", "recorded 10, came 11"),
        (LLAMA, boat(max_tokens="10"), "input.max_tokens", "recorded 10, came a string"),
        (LLAMA, boat(max_tokens=True), "input.max_tokens", "recorded 10, came a boolean"),
        (LLAMA, boat(max_tokens=None), "input.max_tokens", "recorded 10, came null"),
        (LLAMA, {"prompt": "a boat at dawn [[tokens=6]]"}, "input.max_tokens", "came nothing"),
        (LLAMA, boat(vault="hunter2"), "input.vault", "recorded nothing, came a string"),
        (LLAMA, boat(**{"a b": 1}), 'input["a b"]', "recorded nothing, came a number"),
        (LLAMA, [], "input", "recorded an object, came an array"),
        (
            SCHNELL,
            {"prompt": "a lake", "num_outputs": 1, "go_fast": False, "seed": 7},
            "input.go_fast",
            "recorded true, came false",
        ),
        ("nobody/nothing", {}, "target", f"recorded {LLAMA}, {SCHNELL}, came nobody/nothing"),
    ],
)
async def test_the_first_field_that_differs_is_named(
    made_cassette: Path, model: str, given: Any, field: str, message: str
) -> None:
    """In an error of Replicate's form, by the most similar recording."""
    async with replaying(made_cassette) as (traffic, server):
        problem = await traffic.create(model, given)
        state = server.state()
    assert traffic.seen[-1][0] == "create 422 application/problem+json"
    assert problem["title"] == "No recording matches"
    assert message in problem["detail"]
    assert "hunter2" not in str(problem)
    assert [each["field"] for each in problem["invalid_fields"]] == [field]
    assert state["mismatches"] == [problem["detail"]]


async def test_creates_match_by_meaning(made_cassette: Path) -> None:
    """Whatever their path, order of names, form of numbers, headers and webhook."""
    async with replaying(made_cassette) as (traffic, _):
        first = await traffic.create(LLAMA, boat(max_tokens=10.0))
        body = {"stream": True, "input": dict(reversed(boat().items())), "version": LLAMA}
        second = await traffic.send(
            "POST", "/v1/predictions", json=body, headers={"Prefer": "wait=9", "Cancel-After": "9s"}
        )
        third = await traffic.create(LLAMA, boat())
        assert first["id"] != second["id"]
        assert "recorded 2 times" in third["detail"]
        lake = {"prompt": "a lake", "num_outputs": 1, "go_fast": True}
        assert "id" in await traffic.create(SCHNELL, lake)  # A seed is drawn anew for each run.
        await traffic.send("POST", "/sandbox/reset")
        assert (await traffic.create(LLAMA, boat()))["id"] == first["id"]


async def test_unrecorded_requests_are_reported(made_cassette: Path) -> None:
    """A read is not there, a cancel is refused, and other links lead nowhere."""
    async with replaying(made_cassette) as (traffic, server):
        for path in ("/v1/account", "/v1/predictions/unknown", f"/v1/models/{LLAMA}"):
            problem = await traffic.send("GET", path, "read")
            assert path in problem["detail"]
            assert problem["status"] == 404
        await traffic.send("GET", "/files/none/out-0.png", "file")
        assert traffic.seen[-1][0].startswith("file 404")
        prediction = await traffic.create(LLAMA, boat())
        refused = await traffic.send("POST", prediction["urls"]["cancel"])
        assert refused["detail"] == "No cancel of this prediction was recorded."
        assert server.state()["creates_left"] == 3


async def test_every_recorded_state_is_polled(tmp_path: Path) -> None:
    """In their order, though all are due; and errors between them, which are seen once."""
    path = tmp_path / "states.jsonl"
    given = {"prompt": "slow [[tokens=3 hang_after=1]]"}
    async with recording(path) as (traffic, sandbox):
        prediction = await traffic.create(LLAMA, given)
        while prediction["status"] != "processing":
            prediction = await traffic.send("GET", prediction["urls"]["get"])
        faults = f"{sandbox.url}/sandbox/faults"
        throttle = {"do": "throttle", "on": "get", "retry_after": 1}
        async with traffic.session.post(faults, json={"faults": [throttle]}) as response:
            assert response.status == 200, await response.text()
        problem = await traffic.send("GET", prediction["urls"]["get"])
        assert problem["status"] == 429
        await traffic.session.delete(faults)
        # Not through the recorder: a replay would wait for it.
        await traffic.session.post(f"{sandbox.base_url}/predictions/{prediction['id']}/cancel")
        await traffic.end(prediction)
    async with replaying(path) as (traffic, _):
        prediction = await traffic.create(LLAMA, given)
        polls = [await traffic.send("GET", prediction["urls"]["get"], "poll") for _ in range(5)]
    assert [each["status"] for each in polls] == [*("processing", 429), *["canceled"] * 3]
    assert traffic.seen[2][0].startswith("poll 429")


async def test_states_after_a_cancel_wait_for_it(tmp_path: Path) -> None:
    """States and events after a cancel wait for it; those before it do not."""
    path = tmp_path / "cancel.jsonl"
    given = {"prompt": "stop [[tokens=9 hang_after=2]]"}
    async with recording(path) as (traffic, _):
        prediction = await traffic.create(LLAMA, given)
        document: Any = {"output": None}
        while len(document["output"] or ()) < 2:
            document = await traffic.send("GET", prediction["urls"]["get"])
        await traffic.send("POST", prediction["urls"]["cancel"])
        await traffic.end(prediction)
    async with replaying(path) as (traffic, _):
        prediction = await traffic.create(LLAMA, given)
        stream = asyncio.create_task(traffic.stream(prediction))
        for _ in range(3):
            document = await traffic.send("GET", prediction["urls"]["get"])
            assert document["status"] == "processing"
        assert not stream.done()
        assert (await traffic.send("POST", prediction["urls"]["cancel"]))["status"] == "canceled"
        events = parse_events(await stream)
        assert [each.name for each in events] == ["output", "output", "done"]
        assert (await traffic.end(prediction))["status"] == "canceled"


@pytest.mark.parametrize("dialect", ["replicate", "cog"])
async def test_streams_resume_and_are_recorded_unread(tmp_path: Path, dialect: Any) -> None:
    """All events are there though upstream cut the stream and nobody read it."""
    path = tmp_path / "stream.jsonl"
    given = {"prompt": "long [[tokens=40]]"}
    upstream = replace(INSTANT, cut_streams_after_bytes=900, stream_dialect=dialect)
    async with recording(path, upstream) as (traffic, _):
        prediction = await traffic.create(LLAMA, given)
        await traffic.end(prediction)
        # When it stops, the recorder reads on what has not ended.
    async with replaying(path) as (traffic, _):
        prediction = await traffic.create(LLAMA, given)
        full_stream = await traffic.stream(prediction)
        assert full_stream.count(b"event: output") == 40
        assert full_stream.count(b"event: done") + full_stream.count(b"event: completed") == 1
        if dialect == "replicate":
            events = parse_events(full_stream)
            rest = parse_events(await traffic.stream(prediction, **{"Last-Event-ID": events[9].id}))
            assert rest == events[10:]


async def test_the_replicate_package_sees_no_difference(tmp_path: Path) -> None:
    """Its own `run`, `stream`, predictions and files, recorded and replayed."""
    path = tmp_path / "sdk.jsonl"

    async def use(url: str) -> list[Any]:
        client = Client(api_token="any", base_url=url, transport=httpx.AsyncHTTPTransport())
        client.poll_interval = 0.005
        text: Any = await client.async_run(LLAMA, input={"prompt": "Hello"})
        links: Any = await client.async_run(SCHNELL, input={"prompt": "boat", "num_outputs": 2})
        events = await client.async_stream(LLAMA, input={"prompt": "Bye"})
        file = await client.files.async_create(io.BytesIO(b"hello"), filename="a.txt")
        run = await client.models.predictions.async_create(LLAMA, input={"prompt": "[[hang]]"})
        await run.async_cancel()
        async with httpx.AsyncClient() as plain:
            pictures = [(await plain.get(link)).content for link in links]
        with pytest.raises(ReplicateError) as refused:
            await client.async_run(SCHNELL, input={"num_outputs": 2})
        model = await client.models.async_get(SCHNELL)
        stream_events = [(each.event, each.id, each.data) async for each in events]
        await client._async_client.aclose()
        return [
            text,
            pictures,
            stream_events,
            file.id,
            run.id,
            run.status,
            str(refused.value),
            model.run_count,
        ]

    async with (
        Sandbox(INSTANT) as sandbox,
        recorder(path, INSTANT, upstream=sandbox.base_url) as server,
    ):
        recorded = await use(server.url)
    async with replayer(path, INSTANT) as server:
        assert await use(server.url) == recorded
        assert server.state()["mismatches"] == []


async def test_outputs_on_other_hosts_are_not_recorded(tmp_path: Path) -> None:
    """The recorder goes to no private address, and not without TLS, whatever an output says."""
    path = tmp_path / "foreign.jsonl"
    async with receiving() as other:
        origin = other.url.removesuffix("/hook")
        async with recording(path) as (traffic, sandbox):
            fault = {"do": "foreign_output", "on": "create", "origin": origin}
            url = f"{sandbox.url}/sandbox/faults"
            async with traffic.session.post(url, json={"faults": [fault]}) as response:
                assert response.status == 200, await response.text()
            prediction = await traffic.create(
                SCHNELL, {"prompt": "far"}, headers={"Prefer": "wait"}
            )
        async with replaying(path) as (traffic, _):
            replayed = await traffic.create(SCHNELL, {"prompt": "far"})
        assert replayed["output"] == prediction["output"]
        assert replayed["output"][0].startswith(origin)
        assert other.all == []


@pytest.mark.parametrize(
    ("link", "may"),
    [
        ("https://replicate.delivery/pbxt/a/out.png", True),
        ("https://storage.googleapis.com/replicate-files/a/file", True),
        ("https://8.8.8.8/out.png", True),
        ("http://127.0.0.1:9/files/out.png", True),  # Upstream's own.
        ("http://127.0.0.1:8/files/out.png", False),
        ("http://replicate.delivery/out.png", False),
        ("https://127.0.0.1:9/out.png", False),
        ("https://localhost/out.png", False),
        ("https://box.local/out.png", False),
        ("https://[::1]/out.png", False),
        ("https://[::ffff:10.0.0.1]/out.png", False),
        ("https://[2002:7f00:1::]/out.png", False),
        ("https://169.254.169.254/latest", False),
        ("https://user@10.0.0.1/out.png", False),
        ("https://2130706433/out.png", False),
        ("https://0x7f.1/out.png", False),
        ("https://127.1/out.png", False),
        ("https:///out.png", False),
        ("file:///etc/passwd", False),
    ],
)
def test_hosts_the_recorder_downloads_from(link: str, may: bool) -> None:
    """Upstream, and public hosts over https; names are looked at again when they are resolved."""
    assert UpstreamClient("http://127.0.0.1:9", 1).may_download(link) is may


async def test_odd_json_passes_and_matches(tmp_path: Path) -> None:
    """Half characters, large numbers, deep nests and what is no JSON at all."""
    path = tmp_path / "odd.jsonl"
    bodies = [
        b'{"input": {"prompt": "half \\ud83d", "seed": 9007199254740993, "top_p": 0.10}}',
        b'{"input": {"prompt": "deep", "extra": %b}}' % (b"[" * 900 + b"]" * 900),
        b'{"input": {"prompt": "twice", "prompt": "the last"}}',
        b'{"input": ["no object"]}',
        b"no json \xff",
        b"",
    ]

    async def send(traffic: Traffic) -> list[tuple[str, bytes]]:
        for body in bodies:
            await traffic.send("POST", f"/v1/models/{LLAMA}/predictions", "create", data=body)
        return traffic.seen

    async with recording(path) as (traffic, _):
        recorded = await send(traffic)
    async with replaying(path) as (traffic, server):
        assert await send(traffic) == recorded
        assert list(server.state()["mismatches"]) == []


async def test_times_are_scaled(tmp_path: Path) -> None:
    """A run that took a second takes a tenth of it, and is not over before."""
    path = tmp_path / "times.jsonl"
    given = {"prompt": "wait [[run_ms=1000]]"}
    async with recording(path) as (traffic, _):
        await traffic.end(await traffic.create(SCHNELL, given))
    loop = asyncio.get_running_loop()
    async with replaying(path, time_scale=0.1) as (traffic, _):
        begun = loop.time()
        await traffic.end(await traffic.create(SCHNELL, given))
        assert loop.time() - begun >= 0.09


async def test_webhooks_of_runs_recorded_without_one(made_cassette: Path) -> None:
    """A replay makes start and completed of what it knows, signed with its own secret."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    async with (
        receiving() as receiver,
        replaying(made_cassette, webhook_secret=secret) as (traffic, _),
    ):
        answer = await traffic.send("GET", "/v1/webhooks/default/secret")
        assert answer == {"key": secret}
        receiver.answers = [500]
        await traffic.create(
            LLAMA, boat(), webhook=receiver.url, webhook_events_filter=["completed"]
        )
        again = [await receiver.next() for _ in range(2)]
    assert again[0].body == again[1].body
    assert again[0].json["status"] == "succeeded"
    assert again[0].json["urls"]["get"].startswith(traffic.url)
    for each in again:
        at = int(each.headers["webhook-timestamp"])
        expected = WebhookSigner(secret).headers(
            each.id, datetime.fromtimestamp(at, UTC), each.body
        )
        assert each.headers["webhook-signature"] == expected["webhook-signature"]


async def test_a_killed_recording_replays_complete_runs(tmp_path: Path) -> None:
    """Runs that had ended; the one under way is told of, and half a line at the end is left out."""
    done, open_run = {"prompt": "done"}, {"prompt": "[[hang]]"}
    path = tmp_path / "runs.jsonl"
    async with (
        Sandbox(INSTANT) as sandbox,
        recording_process(path, sandbox.url) as (
            process,
            traffic,
        ),
    ):
        await traffic.end(await traffic.create(SCHNELL, done))
        await traffic.create(LLAMA, open_run)
        process.kill()
    with path.open("ab") as file:
        file.write(b'{"kind":"exchange","at":9')
    async with replaying(path) as (traffic, server):
        await traffic.end(await traffic.create(SCHNELL, done))
        problem = await traffic.create(LLAMA, open_run)
        assert problem["detail"] == "The recording ended before this run did."
        assert server.state()["incomplete"] == 1
    async with recording_to(path, sandbox.url, sandbox.settings) as traffic:
        await traffic.end(await traffic.create(SCHNELL, {"prompt": "later"}))
    async with replaying(path) as (traffic, _):
        for given in (done, {"prompt": "later"}):
            await traffic.end(await traffic.create(SCHNELL, given))


@asynccontextmanager
async def recording_process(
    path: Path, upstream: str, *before: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Traffic]]:
    """`mediagate sandbox --record` as a process, by a command line that begins with `before`."""
    arguments = ("--port", "0", "--record", str(path), "--upstream", upstream)
    process = await asyncio.create_subprocess_exec(
        *before, sys.executable, "-m", "mediagate_cli", "sandbox", *arguments, stderr=PIPE
    )
    assert process.stderr is not None
    try:
        line = (await process.stderr.readline()).decode()
        match = re.search(r"(?<= at )http://[^ ]+(?=\.$)", line.strip())
        assert match, line
        async with open_traffic(match.group()) as traffic:
            yield process, traffic
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@asynccontextmanager
async def recording_to(
    path: Path, upstream: str, settings: SandboxSettings
) -> AsyncIterator[Traffic]:
    """A client of a recorder before a sandbox that is opened where another one was."""
    port = int(upstream.rpartition(":")[2])
    async with (
        Sandbox(replace(settings, port=port)),
        recorder(path, INSTANT, upstream=upstream) as server,
        open_traffic(server.url) as traffic,
    ):
        yield traffic


HEAD = b'{"cassette":1,"upstream":"http://a"}\n'
FILE = (
    b'{"kind":"file","at":1,"url":"http://a/b","status":200,"headers":{},'
    b'"body":{"sha256":"%b","size":3}}\n' % (b"0" * 64)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a cassette: it has no head"),
        (b"\x89PNG\r\n\x1a\n", "is not a cassette: it has no head"),
        (b'{"kind":"exchange"}\n', "is not a cassette: it has no head"),
        (b'{"cassette":2,"upstream":"http://a"}\n', "version 2; this Mediagate reads version 1"),
        (b'{"cassette":1}\n', "line 1 names no upstream"),
        (HEAD + b'{"kind":"exchange","at":1}\n' + FILE, "line 2 is damaged"),
        (HEAD + b"\x00\x00\n", "line 2 is damaged"),
        (HEAD + b'{"kind":"later","at":1}\n', "line 2 is damaged"),
        (HEAD + FILE.replace(b"0" * 64, b"../../../etc/passwd"), "line 2 is damaged"),
        (HEAD + FILE, f"its file {'0' * 64} cannot be read"),
    ],
)
async def test_a_damaged_cassette_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """Whatever is wrong with it, and it is named."""
    path = tmp_path / "runs.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*runs\.jsonl[^\n]*$") as refused:
        async with replaying(path):
            pass
    assert message in str(refused.value)


def copy_damaged(cassette: Path, folder: Path) -> Path:
    """A copy of a cassette whose media have another last byte."""
    media = folder / f"{cassette.name}.media"
    media.mkdir()
    for file in cassette.with_name(media.name).iterdir():
        (media / file.name).write_bytes(file.read_bytes()[:-1] + b"!")
    shutil.copy(cassette, folder)
    return folder / cassette.name


async def test_damaged_media_and_another_upstream(made_cassette: Path, tmp_path: Path) -> None:
    """A file that changed is refused; a cassette of another upstream is not written to."""
    path = copy_damaged(made_cassette, tmp_path)
    with pytest.raises(ValueError, match="is damaged"):
        async with replaying(path):
            pass
    with pytest.raises(ValueError, match="record to another file"):
        async with recorder(path, INSTANT, upstream="http://127.0.0.1:9"):
            pass
    async with replaying(made_cassette):
        pass


async def test_a_full_disk_ends_only_the_recording(tmp_path: Path) -> None:
    """Clients are answered all the same; what was complete is replayed."""
    path, prompts = tmp_path / "runs.jsonl", [f"boat {number}" for number in range(8)]
    limit = ("bash", "-c", 'ulimit -f 12; exec "$@"', "bash")  # KiB of any file
    async with (
        Sandbox(INSTANT) as sandbox,
        recording_process(path, sandbox.url, *limit) as (
            _,
            traffic,
        ),
    ):
        for prompt in prompts:
            document = await traffic.end(await traffic.create(SCHNELL, {"prompt": prompt}))
            assert document["status"] == "succeeded"
        assert not (await traffic.send("GET", "/sandbox/cassette"))["complete"]
    async with replaying(path) as (traffic, server):
        left = server.state()["creates_left"]
        assert 0 < left < len(prompts)
        for prompt in prompts[:left]:
            await traffic.end(await traffic.create(SCHNELL, {"prompt": prompt}))
