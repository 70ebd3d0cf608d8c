"""An upstream of two faces: exact to the innocent, and to all others whatever a seed says.

What is said of a case follows from the seed and the case's number alone, and from how often it was
asked before. Every case comes to an end that can be read: a prediction at its end, whatever else
stands in it, or one that upstream does not have any more.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import aiohttp
from aiohttp import web

from mediagate_sandbox.webhook_signing import WebhookSigner, new_secret

from . import upstream_json

INNOCENT: Final = re.compile(r"innocent-(\d+)")
CASE: Final = re.compile(r"case-(\d+)\b")
_ID: Final = re.compile(r"fz(\d+)z")
PICTURE: Final = "data:image/png;base64,iVBORw0KGgo="
_ODD_STATUSES: Final = (
    200, 202, 204, 206, 301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 418,
    422, 425, 429, 451, 499, 500, 501, 502, 503, 504, 520, 524, 599,
)  # fmt: skip
_WAITS: Final = (
    "1", "0", "-1", "nan", "inf", "1e400", "1e5", "5", "abc", "", "Thu, 01 Jan 1970 00:00:00 GMT",
    "Mon, 99 Zzz 99999999999999 99:99:99 +9999", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 400,
)  # fmt: skip
_ODD_IDS: Final = ("{}", "{}", "{}", "{}", "{}", "{}/x", "{} ", "{}?a=b", "{}#", "%2F{}", "../{}",
    "é{}", "\U0001f600{}", "{}\n", "{}\0", "\\{}", "{}" + "x" * 230, "{}:1", "'{}")  # fmt: skip


@dataclass
class Case:
    """What is said of one case. `made`: its prediction exists; `lost`: it does not any more.

    `unclear`: whoever made it may not know, and looks for it in the list.
    """

    number: int
    random: Random
    prediction_id: str
    end: str
    final: bytes = b""
    gets: int = 0
    patience: int = 0
    created: bool = False
    lost: bool = False
    unclear: bool = False
    webhook: str = ""
    input: str = "{}"


@dataclass
class FuzzedUpstream:
    """Answers every route that the server asks. `now` is the time of it and of the server."""

    seed: int
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    url: str = ""
    cases: dict[int, Case] = field(default_factory=dict)
    signer: WebhookSigner = field(default_factory=lambda: WebhookSigner(new_secret()))
    innocents: dict[str, int] = field(default_factory=dict)
    lists: int = 0
    posts: set[asyncio.Task[None]] = field(default_factory=set)
    random: Random = field(default_factory=Random)

    def case(self, number: int) -> Case:
        """What there is to say of a case."""
        if number not in self.cases:
            random = Random(f"{self.seed}:{number}:upstream")
            case = Case(
                number,
                random,
                random.choice(_ODD_IDS).format(f"fz{number}z"),
                random.choices(upstream_json.STATUSES, (8, 2, 1, 1))[0],
                patience=random.choice((0, 0, 1, 1, 2, 4)),
                lost=random.random() < 0.03,
            )
            self.cases[number] = case
        return self.cases[number]

    def _prediction(self, case: Case, status: str, required: frozenset[str] = frozenset()) -> bytes:
        random = case.random
        stream = f"{self.url}/v1/streams/fz{case.number}z" if random.random() < 0.7 else ""
        output = upstream_json.output(random, f"{self.url}/out/fz{case.number}z")
        members = upstream_json.prediction(
            random, case.prediction_id, status, output, self.now(), case.input, stream
        )
        members = upstream_json.spoiled(random, members, required)
        return upstream_json.written(members).encode("utf-8", "surrogatepass")

    # Creates

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST of a prediction."""
        body = await request.text()
        if match := INNOCENT.search(body):
            return self._innocent(int(match[1]), "starting", 201)
        number = CASE.search(body)
        assert number, "a model was told none of the caller's words"
        case = self.case(int(number[1]))
        request_json = json.loads(body)
        case.webhook, case.input = (
            request_json.get("webhook", ""),
            json.dumps(request_json["input"]),
        )
        case.final = self._prediction(case, case.end, frozenset({"id", "status"}))
        random = case.random
        way = random.random()
        case.created = True
        case.unclear = way < 0.2
        if way < 0.12:
            case.created = random.random() < 0.5
            return await self._odd(request, random, self._prediction(case, "starting"))
        if way < 0.2:
            case.created = random.random() < 0.7
            text = self._prediction(case, "starting").decode("utf-8", "surrogatepass")
            return _answer(random, upstream_json.garbled(random, text), 201)
        if way < 0.35:
            return _answer(random, case.final, 201)
        status = random.choice(("starting", "processing", "queued", "succeeded"))
        required = frozenset({"id", "status"}) if random.random() < 0.7 else frozenset()
        if case.webhook and random.random() < 0.5:
            self._post_later(case)
        return _answer(random, self._prediction(case, status, required), 201)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET of a prediction."""
        name = request.match_info["id"]
        if name in self.innocents:
            return self._innocent(self.innocents[name], "succeeded", 200)
        case = self._of(name)
        if case is None:
            return web.json_response({"detail": "nowhere"}, status=404)
        return await self._state(request, case)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """POST of a cancel."""
        case = self._of(request.match_info["id"])
        if case is None:
            return web.json_response({"detail": "nowhere"}, status=404)
        case.patience = 0
        if case.random.random() < 0.4:
            return await self._odd(request, case.random, self._prediction(case, "canceled"))
        return await self._state(request, case)

    async def _state(self, request: web.Request, case: Case) -> web.StreamResponse:
        random = case.random
        case.gets += 1
        if case.gets > case.patience:
            if case.lost:
                return web.json_response({"detail": "gone"}, status=404)
            return _plain(case.final)
        way = random.random()
        if way < 0.2:
            return await self._odd(request, random, case.final)
        text = self._prediction(case, random.choice(("starting", "processing", "odd")))
        if way < 0.4:
            garbled = upstream_json.garbled(random, text.decode("utf-8", "surrogatepass"))
            return _answer(random, garbled, 200)
        return _answer(random, text, 200)

    def _of(self, name: str) -> Case | None:
        match = _ID.search(name)
        return self.case(int(match[1])) if match and int(match[1]) in self.cases else None

    def _innocent(self, number: int, status: str, http_status: int) -> web.Response:
        name = f"in{number}"
        self.innocents[name] = number
        output: Any = PICTURE if number % 16 else [f"told {number}"]
        metrics = {"input_token_count": number, "output_token_count": 7, "image_output_count": 1}
        ended = status == "succeeded"
        document = {
            "id": name,
            "status": status,
            "output": output if ended else None,
            "metrics": metrics if ended else None,
            "created_at": self.now().isoformat(),
        }
        return web.json_response(document, status=http_status)

    async def _odd(self, request: web.Request, random: Random, body: bytes) -> web.StreamResponse:
        """An answer that is odd as HTTP is concerned."""
        match random.randrange(8):
            case 0:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case 1:
                return await _breaks_off(request, body)
            case 2:
                packed = gzip.compress(body)
                headers = {"Content-Encoding": random.choice(("gzip", "deflate", "br", "zstd"))}
                return web.Response(body=packed, headers=headers)
            case 3:
                headers = {
                    random.choice(("Retry-After", "ratelimit-reset")): random.choice(_WAITS),
                    "ratelimit-remaining": random.choice(_WAITS),
                }
                problem = {"detail": "x", "retry_after": 0}
                text = json.dumps(problem)
                if random.random() < 0.5:
                    text = upstream_json.written(
                        upstream_json.spoiled(random, [('"detail"', '""'), ('"retry_after"', "0")])
                    )
                return web.Response(
                    body=text.encode("utf-8", "surrogatepass"), status=429, headers=headers
                )
            case _:
                document = upstream_json.written(
                    upstream_json.spoiled(
                        random,
                        [
                            ('"title"', '"no"'),
                            ('"detail"', '"- input.prompt: is required\\n"'),
                            ('"status"', "422"),
                            ('"invalid_fields"', '[{"field":"prompt","description":"no"}]'),
                        ],
                    )
                ).encode("utf-8", "surrogatepass")
                status = random.choice(_ODD_STATUSES)
                return _answer(random, document if random.random() < 0.5 else body, status)

    # Everything else

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        """GET of the list of predictions."""
        self.lists += 1
        random = Random(f"{self.seed}:{self.lists}:list")
        rows = [
            case.final.decode("utf-8", "surrogatepass")
            for case in self.cases.values()
            if case.created and case.unclear and case.final and not case.lost
        ][-50:]
        rows += [upstream_json.literal(random) for _ in range(random.choice((0, 0, 3)))]
        random.shuffle(rows)
        following = "null"
        if random.random() < 0.1:
            following = random.choice(('"http://x/?cursor=a"', "5", '"https://[/"', "{}"))
        text = f'{{"previous":null,"next":{following},"results":[{",".join(rows)}]}}'
        way = random.random()
        if way < 0.1:
            return await self._odd(request, random, text.encode("utf-8", "surrogatepass"))
        if way < 0.2:
            return _answer(random, upstream_json.garbled(random, text), 200)
        return _plain(text.encode("utf-8", "surrogatepass"))

    async def model(self, request: web.Request) -> web.StreamResponse:
        """GET of a model or of a version of it."""
        return await self._document(request, upstream_json.model)

    async def deployment(self, request: web.Request) -> web.StreamResponse:
        """GET of a deployment."""
        return await self._document(request, upstream_json.deployment)

    async def _document(self, request: web.Request, make: Any) -> web.StreamResponse:
        owner, title = request.match_info["owner"], request.match_info["name"]
        random = Random(f"{self.seed}:{request.path}")
        text = make(random, owner, title)
        if random.random() < 0.1:
            return await self._odd(request, random, text.encode("utf-8", "surrogatepass"))
        if random.random() < 0.1:
            return _answer(random, upstream_json.garbled(random, text), 200)
        return _plain(text.encode("utf-8", "surrogatepass"))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """POST of a file."""
        body = await request.read()
        match = CASE.search(body[:4_096].decode("latin-1"))
        random = self.case(int(match[1])).random if match else self.random
        link = f"{self.url}/v1/files/1"
        members = [('"id"', '"f"'), ('"urls"', json.dumps({"get": link}))]
        members.append(('"expires_at"', '"2026-12-01T00:00:00Z"'))
        if random.random() < 0.3:
            members[1] = ('"urls"', f'{{"get":{upstream_json.literal(random)}}}')
        text = upstream_json.written(upstream_json.spoiled(random, members))
        if random.random() < 0.2:
            return await self._odd(request, random, text.encode("utf-8", "surrogatepass"))
        return _answer(random, text.encode("utf-8", "surrogatepass"), 201)

    async def secret(self, request: web.Request) -> web.StreamResponse:
        """GET of the webhook secret."""
        if self.random.random() < 0.3:
            text = upstream_json.written([('"key"', upstream_json.literal(self.random))])
            return _answer(self.random, text.encode("utf-8", "surrogatepass"), 200)
        return web.json_response({"key": self.signer.secret})

    async def output(self, request: web.Request) -> web.StreamResponse:
        """GET of what a model has made."""
        match = _ID.search(request.path)
        random = self.case(int(match[1])).random if match else self.random
        kind = random.choice(("image/png", "text/html", "video/mp4", "a", "x/y; z", "audio/wav"))
        status = random.choice((200, 200, 200, 200, 403, 410))
        return web.Response(
            body=random.randbytes(random.choice((0, 10, 5_000))),
            status=status,
            headers={"Content-Type": kind, "Location": random.choice(("/x", "http://[", ""))},
        )

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET of a stream."""
        case = self._of(request.path)
        random = case.random if case else self.random
        if random.random() < 0.15:
            return await self._odd(request, random, b"event: done\ndata: {}\n\n")
        kind = random.choice(("text/event-stream",) * 6 + ("text/plain", "", "text/event-stream;x"))
        answer = web.StreamResponse(headers={"Content-Type": kind})
        await answer.prepare(request)
        for _ in range(random.choice((0, 1, 3, 10))):
            await answer.write(_event(random))
        if random.random() < 0.6:
            await answer.write(b"event: done\ndata: " + _reason(random) + b"\n\n")
        return answer

    # Webhooks

    def _post_later(self, case: Case) -> None:
        task = asyncio.get_running_loop().create_task(self._post(case))
        self.posts.add(task)
        task.add_done_callback(self.posts.discard)

    async def _post(self, case: Case) -> None:
        """Tell the server of it, in a signed body that holds anything."""
        random = case.random
        body = self._prediction(case, random.choice(("processing", "succeeded")))
        if random.random() < 0.3:
            body = upstream_json.garbled(random, body.decode("utf-8", "surrogatepass"))
        headers = self.signer.headers(f"msg_{case.number}", self.now(), body)
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(case.webhook, data=body, headers=headers) as answer,
            ):
                await answer.read()
                assert answer.status < 500 or answer.status == 503, answer.status
        except (aiohttp.ClientError, TimeoutError):
            return  # The server has gone.


def _answer(random: Random, body: bytes, status: int) -> web.Response:
    kind = random.choice(("application/json",) * 5 + ("text/html", "application/problem+json", "x"))
    if random.random() < 0.05:
        return web.Response(
            body=gzip.compress(body),
            status=status,
            headers={"Content-Type": kind, "Content-Encoding": "gzip"},
        )
    return web.Response(body=body, status=status, headers={"Content-Type": kind})


def _plain(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def _breaks_off(request: web.Request, body: bytes) -> web.StreamResponse:
    """The beginning of it, though all of it was promised."""
    answer = web.StreamResponse(headers={"Content-Length": str(len(body) + 10)})
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return answer


_EVENT_NAMES: Final = (b"output",) * 8 + (b"logs", b"error", b"done", b"", b"out\0put", b"x" * 500)
_LINE_ENDS: Final = (b"\n",) * 6 + (b"\r\n", b"\r")


def _event(random: Random) -> bytes:
    """One event, or what looks a little like one."""
    end = random.choice(_LINE_ENDS)
    number = random.choice((b"1690212292:%d" % random.randrange(20), b"", b"x", b"\0", b"a" * 2_000,
        b"9" * 40 + b":1", b"-1:-1", "é:1".encode(), b"1:1:1", b"\xff"))  # fmt: skip
    data = random.choice((b"tok ", b"", b" ", b"\xff\xfe", b"\0", b"x" * 5_000, "a\u2028b".encode(),
        b"\xed\xa0\x80", b'{"detail": [[]]}', b"http://127.0.0.1:1/x"))  # fmt: skip
    lines = [b"event: " + random.choice(_EVENT_NAMES), b"id: " + number, b"data: " + data]
    if random.random() < 0.2:
        random.shuffle(lines)
    if random.random() < 0.2:
        lines.append(random.choice((b": hi", b"retry: 99999999999999", b"data", b"id", b"junk")))
    return end.join(lines) + end + (end if random.random() < 0.9 else b"")


def _reason(random: Random) -> bytes:
    literal = upstream_json.literal(random) if random.random() < 0.5 else "{}"
    return literal.replace("\n", " ").encode("utf-8", "surrogatepass")


@web.middleware
async def _nobody_there(request: web.Request, handler: Any) -> web.StreamResponse:
    """Whoever asked may have left in the middle of the answer."""
    try:
        answer: web.StreamResponse = await handler(request)
    except ConnectionResetError:
        return web.Response()
    return answer


@asynccontextmanager
async def fuzzed_upstream(seed: int) -> AsyncIterator[FuzzedUpstream]:
    """Run it on a free port of loopback."""
    upstream = FuzzedUpstream(seed, random=Random(f"{seed}:upstream"))
    application = web.Application(client_max_size=8 * 1024 * 1024, middlewares=[_nobody_there])
    add = application.router.add_route
    add("POST", "/v1/predictions", upstream.create)
    add("POST", "/v1/models/{owner}/{name}/predictions", upstream.create)
    add("POST", "/v1/deployments/{owner}/{name}/predictions", upstream.create)
    add("GET", "/v1/predictions", upstream.list_all)
    add("POST", "/v1/predictions/{id:.*}/cancel", upstream.cancel)
    add("GET", "/v1/predictions/{id:.*}", upstream.get)
    add("GET", "/v1/models/{owner}/{name}", upstream.model)
    add("GET", "/v1/models/{owner}/{name}/versions/{version}", upstream.model)
    add("GET", "/v1/deployments/{owner}/{name}", upstream.deployment)
    add("POST", "/v1/files", upstream.file)
    add("GET", "/v1/webhooks/default/secret", upstream.secret)
    add("GET", "/v1/streams/{id}", upstream.stream)
    add("*", "/out/{id}", upstream.output)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield upstream
    finally:
        for task in list(upstream.posts):
            task.cancel()
        await asyncio.gather(*upstream.posts, return_exceptions=True)
        await runner.cleanup()
