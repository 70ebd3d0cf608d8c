"""A host that nobody should ever call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def foreign_host() -> AsyncIterator[tuple[str, list[str]]]:
    """A host that nobody should ever call, and who called it."""
    called: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        called.append(f"{request.method} {request.headers.get('Authorization', '')}")
        return web.json_response({"id": "p", "status": "succeeded", "output": ["x"]})

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", called
    finally:
        await runner.cleanup()
