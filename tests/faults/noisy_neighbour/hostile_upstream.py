"""The upstream of these tests: a sandbox that has the hostile models beside its own.

A process of its own: `python -m tests.faults.noisy_neighbour.hostile_upstream FOLDER`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

from aiohttp import web
from aiohttp.typedefs import Handler

from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import Sandbox
from tests.sandbox_process import INSTANT

from .hostile_models import BODIES, Prediction, file_of, model_document, stream_of

OWNER = "hostile"
_ROOT = Path(__file__).parents[3]


class HostileUpstream(Sandbox):
    """Answers what is about a hostile model by itself; all else is the sandbox's."""

    def _application(self, *arguments: object) -> web.Application:
        application: web.Application = super()._application(*arguments)  # type: ignore[arg-type]
        application.middlewares.insert(0, _hostile)
        return application


@web.middleware
async def _hostile(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Routes by the path's pieces: the names of hostile models stand in their ids."""
    match request.path.strip("/").split("/"):
        case ["v1", "models", owner, name] if owner == OWNER:
            return web.json_response(model_document(name))
        case ["v1", "models", owner, name, "predictions"] if owner == OWNER:
            webhooks.append((await request.json()).get("webhook", ""))
            return web.json_response(_begun(_id(name), request), status=201)
        case ["hostile", "webhook"]:
            return web.Response(text=webhooks[-1])
        case ["v1", "predictions", prediction] if prediction.startswith(OWNER):
            return _body(prediction, request)
        case ["v1", "predictions", prediction, "cancel"] if prediction.startswith(OWNER):
            return web.json_response(_begun(prediction, request) | {"status": "canceled"})
        case ["v1", "streams", prediction] if prediction.startswith(OWNER):
            return await _stream(prediction, request)
        case ["hostile", "files", _, name]:
            return await _file(name, request)
    return await handler(request)


webhooks: list[str] = []
"""Where the server wants to be told of the hostile models' predictions."""
_count = 0


def _id(name: str) -> str:
    global _count  # noqa: PLW0603 - one process, one count
    _count += 1
    return f"{OWNER}.{name}.{_count}"


def _origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _begun(prediction: str, request: web.Request) -> dict[str, object]:
    name = prediction.split(".")[1]
    urls = {}
    if name.startswith("streamed"):
        urls["stream"] = f"{_origin(request)}/v1/streams/{prediction}"
    return {
        "id": prediction,
        "model": f"{OWNER}/{name}",
        "version": "hidden",
        "status": "processing",
        "input": {},
        "logs": "",
        "urls": urls,
        "created_at": "2026-01-01T00:00:00Z",
    }


def _body(prediction: str, request: web.Request) -> web.Response:
    make = BODIES.get(prediction.split(".")[1], BODIES["plain"])
    body = make(Prediction(prediction, _origin(request)))
    return web.Response(body=body, content_type="application/json")


async def _stream(prediction: str, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for piece in stream_of(prediction.split(".")[1]):
        await response.write(piece)
    return response


async def _file(name: str, request: web.Request) -> web.StreamResponse:
    if name == "around.png":
        raise web.HTTPFound(request.path)
    piece, count, pause = file_of(name)
    headers = {"Content-Type": "image/jpeg" if name.endswith("jpg") else "image/png"}
    if not pause:
        headers["Content-Length"] = str(len(piece) * count + 2 * name.endswith("jpg"))
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    if name.endswith("jpg"):
        await response.write(b"\xff\xd8")
    for _ in range(count):
        await response.write(piece)
        await asyncio.sleep(pause)
    return response


@contextmanager
def running_upstream(folder: Path) -> Iterator[SandboxControl]:
    """Starts it on a free port, and stops it in the end."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", __name__]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.search(r"http://[^ ,]+", line)
        assert match, line + process.stderr.read()
        # A pipe that nobody reads fills up, and stops whoever writes into it.
        reading = Thread(target=_copy, args=(process.stderr, folder / "upstream.log"))
        reading.start()
        try:
            yield SandboxControl(match.group())
        finally:
            process.terminate()
            reading.join()


def _copy(lines: IO[str], file: Path) -> None:
    with file.open("w") as copy:
        copy.writelines(lines)


async def _serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with HostileUpstream(INSTANT):
        await stop.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(_serve())
