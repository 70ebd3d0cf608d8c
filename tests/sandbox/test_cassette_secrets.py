"""No secret gets into a cassette, wherever it stood and whoever repeated it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from mediagate_sandbox.cassettes.server import recorder, replayer
from tests.sandbox_process import INSTANT

SECRETS = {
    "token": "r8_fake/token+with=signs&more",
    "basic": "basic-user-password",
    "cookie": "cookie-value-1234",
    "set_cookie": "set-cookie-value-5678",
    "header": "x-api-key-value",
    "query": "query-token value",
    "vault": 'a vault "key" \\ of it',
    "pin": "4711",
    "nested": "nested-credential",
    "listed": "listed-credential",
    "named": "hf_named_by_its_field",
    "short": "abc",
    "camel": "camel-case-secret",
    "signature": "5iGn4tUr3%2Fof%3Ds3",
    "user": "link-user:link-password",
    "webhook": "webhook-path-secret",
    "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "form": "sk-proj-abcdefghijklmnopqrstuvwx",
}
SCHEMAS = {
    "Input": {
        "type": "object",
        "properties": {
            "prompt": {"type": "string"},
            "vault": {"type": "string", "x-cog-secret": True},
            "pin": {"type": "string", "format": "password"},
            "account": {"allOf": [{"$ref": "#/components/schemas/Account"}]},
            "keys": {"type": "array", "items": {"type": "string", "writeOnly": True}},
        },
    },
    "Account": {
        "type": "object",
        "properties": {"code": {"anyOf": [{"type": "string", "format": "password"}]}},
    },
    "Output": {"type": "object", "properties": {"file": {"type": "string", "format": "uri"}}},
}


def given(secrets: dict[str, str], host: str) -> dict[str, Any]:
    """An input with secrets by schema, by name, in links and in texts."""
    return {
        "prompt": f"use {secrets['form']} and {secrets['token']}",
        "vault": secrets["vault"],
        "pin": secrets["pin"],
        "account": {"code": secrets["nested"]},
        "keys": [secrets["listed"]],
        "hf_token": secrets["named"],
        "password": secrets["short"],
        "clientSecret": secrets["camel"],
        "image": f"https://bucket.example/a.png?X-Amz-Expires=60&X-Amz-Signature={secrets['signature']}",
        "audio": f"https://{secrets['user']}@{host}/a.mp3",
    }


class Upstream:
    """An API that repeats all that it is told, in every place."""

    def __init__(self) -> None:
        self.url = ""
        self.readable = True
        self.inputs: list[Any] = []

    def document(self, status: str) -> dict[str, Any]:
        link = f"{self.url}/out/a.bin?sig={SECRETS['signature']}&se=9"
        return {
            "id": "p1",
            "model": "acme/vault",
            "version": "hidden",
            "status": status,
            "input": self.inputs[-1],
            "logs": " ".join(SECRETS.values()) if self.readable else "",
            "output": {"file": link} if status == "succeeded" else None,
            "urls": {
                "get": f"{self.url}/v1/predictions/p1",
                "stream": f"{self.url}/v1/streams/s?token={SECRETS['signature']}",
            },
            "webhook": f"https://hooks.example/{SECRETS['webhook']}",
        }

    async def create(self, request: web.Request) -> web.Response:
        try:
            self.inputs.append(orjson.loads(await request.read())["input"])
        except orjson.JSONDecodeError:
            return web.json_response({"detail": "no JSON"}, status=400)
        response = web.json_response(self.document("starting"), status=201)
        response.set_cookie("session", SECRETS["set_cookie"])
        return response

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self.document("succeeded"))

    async def model(self, request: web.Request) -> web.Response:
        if not self.readable:
            return web.json_response({"detail": "no"}, status=404)
        schema = {"openapi_schema": {"components": {"schemas": SCHEMAS}}}
        return web.json_response({"latest_version": schema})

    async def stream(self, request: web.Request) -> web.Response:
        text = "".join(
            f"event: output\nid: 1:{number}\ndata: {value}\n\n"
            for number, value in enumerate(SECRETS.values())
        )
        return web.Response(
            text=f"{text}event: done\nid: 2:0\ndata: {{}}\n\n", content_type="text/event-stream"
        )

    async def other(self, request: web.Request) -> web.Response:
        if request.path.endswith("/secret"):
            return web.json_response({"key": SECRETS["webhook_secret"]})
        if request.path == "/v1/account":
            return web.json_response({"username": "acme"})
        if request.path.startswith("/out/"):
            assert request.query["sig"] == "5iGn4tUr3/of=s3"
            return web.Response(body=b"\x00\xff", content_type="application/octet-stream")
        return web.json_response({"results": [self.document("failed")], "next": None})


@asynccontextmanager
async def opened_upstream() -> AsyncIterator[Upstream]:
    upstream, application = Upstream(), web.Application()
    application.router.add_post("/v1/models/acme/vault/predictions", upstream.create)
    application.router.add_get("/v1/predictions/p1", upstream.get)
    application.router.add_get("/v1/models/acme/vault", upstream.model)
    application.router.add_get("/v1/streams/s", upstream.stream)
    application.router.add_get("/{path:.*}", upstream.other)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield upstream
    finally:
        await runner.cleanup()


async def send_everything(url: str, secrets: dict[str, str]) -> list[bytes]:
    """A create, its stream, end and file, and reads, each with other credentials."""
    basic = base64.b64encode(f"user:{secrets['basic']}".encode()).decode()
    headers = {
        "Authorization": f"Bearer {secrets['token']}",
        "Cookie": f"session={secrets['cookie']}",
        "X-Api-Key": secrets["header"],
    }
    seen = []
    async with aiohttp.ClientSession() as session:
        # What a secret is must be known before it is repeated.
        for sent in (headers, {"Authorization": f"Basic {basic}"}, {"authorization": "Token x"}):
            query = {"api_token": secrets["query"]}
            async with session.get(f"{url}/v1/account", headers=sent, params=query) as response:
                assert response.status == 200
        async with session.get(f"{url}/v1/webhooks/default/secret", headers=headers) as response:
            assert response.status == 200
        body: dict[str, Any] = {"input": given(secrets, "host.example")}
        body["webhook"] = f"https://hooks.example/{secrets['webhook']}"
        path = f"{url}/v1/models/acme/vault/predictions"
        # Whatever its type is called; and no JSON at all.
        async with session.post(
            path, data=b"%b," % orjson.dumps(body), headers=headers
        ) as response:
            seen.append(str(response.status).encode())
        headers["Content-Type"] = "text/plain"
        async with session.post(path, data=orjson.dumps(body), headers=headers) as response:
            document = await response.json()
            assert response.status == 201, document
        async with session.get(document["urls"]["stream"], headers=headers) as response:
            seen.append(await response.read())
        async with session.get(document["urls"]["get"], headers=headers) as response:
            document = await response.json()
        async with session.get(document["output"]["file"]) as response:
            seen.append(await response.read())
        async with session.get(f"{url}/v1/predictions", headers=headers) as response:
            assert response.status == 200
    return seen


@pytest.mark.parametrize("readable", [True, False])
async def test_no_secret_is_recorded(tmp_path: Path, *, readable: bool) -> None:
    """Of any kind, in no file; a replay matches other secrets, and lets out none."""
    path = tmp_path / "runs.jsonl"
    async with opened_upstream() as upstream:
        upstream.readable = readable
        async with recorder(path, INSTANT, upstream=upstream.url) as server:
            before = await send_everything(server.url, SECRETS)
            assert upstream.inputs == [given(SECRETS, "host.example")]
    written = _all_bytes(tmp_path)
    recorded_strings = _all_strings(path)
    for name, secret in SECRETS.items():
        if len(secret) < 8:
            assert secret not in recorded_strings, name
        else:
            assert secret not in "\n".join(recorded_strings), name
            assert secret.encode() not in written, name
    assert b"bucket.example/a.png?X-Amz-Expires=redacted" in written or not readable
    others = {name: f"another-{number}-entirely" for number, name in enumerate(SECRETS)}
    others["user"] = "another:user"
    others["form"] = "sk-proj-zyxwvutsrqponmlkjihgfedc"
    async with replayer(path, INSTANT) as replay:
        after = await send_everything(replay.url, others)
        (mismatch,) = replay.state()["mismatches"]  # Of what is no JSON there is a hash alone.
    assert mismatch.startswith("$.sha256: ")
    assert (before[0], after[0]) == (b"400", b"422")
    assert after[2] == before[2]
    assert not any(secret.encode() in after[1] for secret in SECRETS.values() if len(secret) > 8)


def _all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def _all_strings(path: Path) -> list[str]:
    """All strings of all lines, and those within JSON in them."""
    strings: list[str] = []
    waiting: list[Any] = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    while waiting:
        match waiting.pop():
            case str() as text:
                strings.append(text)
                if text.startswith("{"):
                    waiting.append(orjson.loads(text))
            case list() as values:
                waiting += values
            case dict() as members:
                waiting += [*members, *members.values()]
    return strings
