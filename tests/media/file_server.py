"""A server of files that does as it is told, and notes what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FileServer:
    """Answers by path: the next of the list, the last one for ever."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)

    def put(self, path: str, *answers: Answer) -> str:
        """Answer so at a path; the whole link."""
        self.answers[path] = list(answers)
        return self.url + path

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What was told to be said there."""
        self.requests.append(request)
        script = self.answers.get(request.path)
        if script is None:
            return web.Response(status=404)
        answer = script.pop(0) if len(script) > 1 else script[0]
        return await answer(request)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[FileServer]:
        """Run it on a free port of loopback."""
        server = cls()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield server
        finally:
            await runner.cleanup()


def file(content: bytes, media_type: str = "", status: int = 200) -> Answer:
    """The whole file, or an error with some words."""

    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": media_type} if media_type else {}
        return web.Response(body=content, status=status, headers=headers)

    return answer


def cut(content: bytes, announced: int) -> Answer:
    """Some bytes of a file that was to be longer, then the connection breaks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(announced)})
        await response.prepare(request)
        await response.write(content)
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def silent(content: bytes) -> Answer:
    """Some bytes of a file, then nothing, for as long as the caller stays."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if content:
            await response.write(content)
        await asyncio.Event().wait()
        return response

    return answer


def unending(chunk: bytes) -> Answer:
    """Chunks without end and without a length."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(chunk)

    return answer


def moved(to: str) -> Answer:
    """A redirect."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": to})

    return answer
