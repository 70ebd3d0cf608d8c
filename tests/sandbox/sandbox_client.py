"""A caller of the sandbox for its tests: plain HTTP, as any client in any language sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from mediagate_sandbox.server import Sandbox

LLAMA = "meta/meta-llama-3-70b-instruct"
SCHNELL = "black-forest-labs/flux-schnell"
TERMINAL = ("succeeded", "failed", "canceled", "aborted")


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    data: str


class SandboxClient:
    """Sends requests to one sandbox, with a token unless told otherwise."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session

    async def send(self, method: str, path: str, content: Any = None, /, **headers: str) -> Answer:
        """Send a request; content is bytes or goes as JSON, header names have underscores."""
        sent = {"Authorization": "Bearer any"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        raw = isinstance(content, bytes) or content is None
        data = content if raw else orjson.dumps(content)
        url = path if path.startswith("http") else self.sandbox.url + path
        async with self.session.request(method, url, data=data, headers=sent) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **headers: str) -> Answer:
        """Send a GET."""
        return await self.send("GET", path, **headers)

    async def create(self, version: str, given: dict[str, Any], **headers: str) -> Answer:
        """Create a prediction by version."""
        body = {"version": version, "input": given}
        return await self.send("POST", "/v1/predictions", body, **headers)

    async def created(self, version: str, given: dict[str, Any], **headers: str) -> Any:
        """Create a prediction that must be accepted; its document."""
        answer = await self.create(version, given, **headers)
        assert answer.status in (201, 202), answer.body
        return answer.json

    async def ended(self, prediction: Any) -> Any:
        """Poll until the prediction has ended; its last document."""
        while True:
            document = (await self.get(prediction["urls"]["get"])).json
            if document["status"] in TERMINAL:
                return document
            await asyncio.sleep(0.005)

    async def ran(self, version: str, given: dict[str, Any]) -> Any:
        """Create a prediction and wait for its end; its last document."""
        return await self.ended(await self.created(version, given))

    async def events(self, prediction: Any, **headers: str) -> list[Event]:
        """All events of the stream, read to its end without a token."""
        return parse_events(await self.stream(prediction, **headers))

    async def stream(self, prediction: Any, **headers: str) -> bytes:
        """The bytes of the whole stream."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(prediction["urls"]["stream"], headers=sent) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            return await answer.read()

    async def state(self) -> Any:
        """What the sandbox has seen."""
        return (await self.get("/sandbox/state")).json


def parse_events(stream: bytes) -> list[Event]:
    """Events of a finished stream; comments are left out, half an event at the end too."""
    events = []
    for block in stream.decode().split("\n\n")[:-1]:
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            fields.setdefault(name, []).append(value)
        if "event" in fields:
            data = "\n".join(fields["data"])
            events.append(Event(fields["event"][0], fields["id"][0], data))
    return events
