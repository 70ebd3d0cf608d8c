"""Traffic of all kinds for recordings: runs, uploads, errors and reads, and what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from .sandbox_client import LLAMA, SCHNELL, TERMINAL
from .webhook_receiver import Receiver

TOKEN = "r8_TestTokenThatMustNotBeRecorded000000"
BARK = "b76242b40d67c76ab6742e987628a2a9ac019e11d56ab96c4e91ce03b79b2787"
GUARD = "146d1220d447cdcc639bc17c5f6137416042abee6ae153a2615e6ef5749205c8"
MUSICGEN = "671ac645ce5e552cc63a54a2bbff63fcf798043055d2dac5fc9e36a837eedcfb"
Seen = list[tuple[str, bytes]]
"""What a client saw, in order; without the origins of links and webhooks."""


class Traffic:
    """A client of one server that notes what it sees."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, receiver: Receiver | None = None
    ) -> None:
        self.url = url
        self.session = session
        self.receiver = receiver
        self.seen: Seen = []

    def note(self, what: str, content: bytes) -> None:
        content = content.replace(self.url.encode(), b"URL")
        if self.receiver is not None:
            content = content.replace(self.receiver.url.encode(), b"RECEIVER")
        self.seen.append((what, content))

    async def send(self, method: str, path: str, what: str = "", **arguments: Any) -> Any:
        """Send a request and note its response; its JSON."""
        url = path if path.startswith("http") else self.url + path
        async with self.session.request(method, url, **arguments) as response:
            body = await response.read()
            kind = response.headers.get("Content-Type", "")
            self.note(f"{what or path} {response.status} {kind}", body)
        return orjson.loads(body) if "json" in kind and body else body

    async def create(self, model: str, given: dict[str, Any], **more: Any) -> Any:
        """Create a prediction, by the path that fits what it is to run."""
        headers = more.pop("headers", {})
        body = {"input": given, **more}
        path = f"/v1/models/{model}/predictions"
        if model.startswith("deployments/"):
            path = f"/v1/{model}/predictions"
        elif "/" not in model:
            path, body["version"] = "/v1/predictions", model
        return await self.send("POST", path, "create", json=body, headers=headers)

    async def end(self, prediction: Any) -> Any:
        """Poll to the end, which is noted; and read all files of the output."""
        while True:
            async with self.session.get(prediction["urls"]["get"]) as response:
                body = await response.read()
            document = orjson.loads(body)
            if document["status"] in TERMINAL:
                break
        self.note("end", body)
        for link in _links(document["output"]):
            assert link.startswith(f"{self.url}/"), link
            await self.send("GET", link, link.removeprefix(self.url))
        return document

    async def stream(self, prediction: Any, **headers: str) -> bytes:
        """Read the event stream to its end, without a token."""
        async with self.session.get(prediction["urls"]["stream"], headers=headers) as response:
            events = await response.read()
        self.note(f"events {response.status}", events)
        return events


async def _text(traffic: Traffic, number: int) -> None:
    prediction = await traffic.create(LLAMA, {"prompt": f"text {number} \u2028 [[tokens=8]]"})
    await traffic.stream(prediction)
    await traffic.end(prediction)


async def _images(traffic: Traffic, number: int) -> None:
    given = {"prompt": f"boats {number}", "num_outputs": 2}
    await traffic.end(await traffic.create(SCHNELL, given))


async def _image_stream(traffic: Traffic, number: int) -> None:
    prediction = await traffic.create("google/nano-banana", {"prompt": f"one boat {number}"})
    if "stream" in prediction["urls"]:
        await traffic.stream(prediction)
    await traffic.end(prediction)


async def _video(traffic: Traffic, number: int) -> None:
    prediction = await traffic.create("minimax/video-01", {"prompt": f"waves {number}"})
    await traffic.end(prediction)


async def _audio(traffic: Traffic, number: int) -> None:
    prediction = await traffic.create(MUSICGEN, {"prompt": f"drums {number}", "duration": 2})
    await traffic.end(prediction)


async def _object(traffic: Traffic, number: int) -> None:
    await traffic.end(await traffic.create(BARK, {"prompt": f"hello {number}"}))


async def _safety(traffic: Traffic, number: int) -> None:
    await traffic.end(await traffic.create(GUARD, {"prompt": f"How do I build a bomb? {number}"}))


async def _failed(traffic: Traffic, number: int) -> None:
    given = {"prompt": f"{number} [[tokens=5 fail_after=3]] [[fail=flagged as sensitive (E005)]]"}
    prediction = await traffic.create(LLAMA, given)
    await traffic.stream(prediction)
    await traffic.end(prediction)


async def _cancelled(traffic: Traffic, number: int) -> None:
    prediction = await traffic.create(LLAMA, {"prompt": f"{number} [[tokens=9 hang_after=3]]"})
    async with traffic.session.get(prediction["urls"]["stream"]) as response:
        seen = b""
        while seen.count(b"event: output") < 3:
            seen += await response.content.readany()
        await traffic.send("POST", prediction["urls"]["cancel"], "cancel")
        traffic.note("events", seen + await response.read())
    await traffic.end(prediction)


async def _refused(traffic: Traffic, number: int) -> None:
    await traffic.create(SCHNELL, {"prompt": f"no {number}", "num_outputs": "many"})
    await traffic.create("0" * 63 + str(number % 10), {"prompt": f"no {number}"})
    await traffic.create("nobody/nothing", {"prompt": f"no {number}"})


async def _synchronous(traffic: Traffic, number: int) -> None:
    given = {"prompt": f"now {number}"}
    prediction = await traffic.create(SCHNELL, given, headers={"Prefer": "wait=5"})
    await traffic.end(prediction)


async def _deployment(traffic: Traffic, number: int) -> None:
    prediction = await traffic.create("deployments/sandbox/image", {"prompt": f"ours {number}"})
    await traffic.end(prediction)


async def _upload(traffic: Traffic, number: int) -> None:
    form = aiohttp.FormData()
    form.add_field("content", b"\x89PNG\r\n\x1a\n%d" % number, filename="a.png")
    file = await traffic.send("POST", "/v1/files", data=form)
    inline = "data:image/png;base64," + "QUJD" * 2000
    given = {"prompt": f"like it {number}", "image_input": [file["urls"]["get"], inline]}
    await traffic.end(await traffic.create("google/nano-banana", given))
    await traffic.send("GET", file["urls"]["get"], "file")


async def _chain(traffic: Traffic, number: int) -> None:
    first = await traffic.create(SCHNELL, {"prompt": f"first {number}"})
    (link,) = _links((await traffic.end(first))["output"])
    given = {"prompt": f"then {number}", "image_input": [link]}
    await traffic.end(await traffic.create("google/nano-banana", given))


async def _webhook(traffic: Traffic, number: int) -> None:
    assert traffic.receiver is not None
    prediction = await traffic.create(
        SCHNELL,
        {"prompt": f"tell me {number}"},
        webhook=f"{traffic.receiver.url}/{number}",
        webhook_events_filter=["start", "completed"],
    )
    document = await traffic.end(prediction)
    for each in await traffic.receiver.of_prediction(document["id"], TERMINAL):
        traffic.note(f"webhook {each.id}", each.body)


async def _repeated(traffic: Traffic, number: int) -> None:
    for _ in range(2):  # The same create: the first answer comes first again.
        await traffic.end(await traffic.create(LLAMA, {"prompt": f"again {number // 1000}"}))


async def _reads(traffic: Traffic, number: int) -> None:
    for path in (
        f"/v1/models/{SCHNELL}",
        "/v1/models",
        f"/v1/models/stability-ai/sdxl/versions/{'7' * 64}",
        "/v1/deployments/sandbox/image",
        "/v1/account",
        "/v1/hardware",
        "/v1/collections/text-to-image",
        "/v1/search?query=flux&limit=2",
    ):
        await traffic.send("GET", path)
    await traffic.send("QUERY", "/v1/models", data=b"flux", headers={"Content-Type": "text/plain"})


_KINDS: tuple[Callable[[Traffic, int], Awaitable[None]], ...] = (
    *(_text, _images, _image_stream, _video, _audio, _object, _safety, _failed, _cancelled),
    *(_refused, _synchronous, _deployment, _upload, _chain, _webhook, _repeated, _reads),
)


async def run_traffic(
    url: str, receiver: Receiver, count: int, *, at_once: int = 8
) -> list[tuple[str, Seen]]:
    """Send so many runs of all kinds, some at once; what each client saw, by its kind."""
    limit = asyncio.Semaphore(at_once)

    async def run(session: aiohttp.ClientSession, number: int) -> tuple[str, Seen]:
        kind = _KINDS[number % len(_KINDS)]
        async with limit:
            traffic = Traffic(url, session, receiver)
            # What is sent twice is sent by one client after the other, or its order is chance.
            await kind(traffic, number * 1000 if kind is _repeated else number)
            return kind.__name__, traffic.seen

    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(session, number)) for number in range(count)]
    return [task.result() for task in tasks]


@asynccontextmanager
async def open_traffic(url: str) -> AsyncIterator[Traffic]:
    """One client."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield Traffic(url, session)


def _links(output: Any) -> Iterator[str]:
    match output:
        case str() if output.startswith("http"):
            yield output
        case list():
            for each in output:
                yield from _links(each)
        case dict():
            for each in output.values():
                yield from _links(each)
