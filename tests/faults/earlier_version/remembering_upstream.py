"""Replicate's API as the folder's server saw it, and as it goes on after that server's death.

What becomes of a create is told by its prompt, which names a scene. What was made, billed and
received is kept in a document, so that another process can go on with it. Always at one address,
because the folder holds links and webhooks that lead there.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum, auto
from fractions import Fraction
from typing import Any

from aiohttp import web

ADDRESS, PORT = "127.0.0.1", 18_790
"""Below the ports that systems give out by themselves."""
URL = f"http://{ADDRESS}:{PORT}"
WEBHOOK_URL = f"{URL}/hook"
FREE_SECONDS = 120
"""As long another run of this test on the same machine may have the port."""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAEElEQVR4nGP4z8AARwzEcQCukw/x0F8jngAAAABJ"
    "RU5ErkJggg=="
)
GUARD, CHAT, NEXT_CHAT = "meta/llama-guard-3-8b", "meta/meta-llama-3-70b-instruct", "openai/gpt-4.1"
SCHNELL, PRO = "black-forest-labs/flux-schnell", "black-forest-labs/flux-1.1-pro"
TEXT = ("It ", "has ", "gone ", "on.")
METRICS: Mapping[str, Mapping[str, Any]] = {
    GUARD: {"predict_time": 0.5},
    CHAT: {"input_token_count": 11, "output_token_count": 4, "predict_time": 1.25},
    NEXT_CHAT: {"input_token_count": 13, "output_token_count": 4, "predict_time": 1.5},
    SCHNELL: {"image_output_count": 1, "predict_time": 0.75},
    PRO: {"image_output_count": 1, "predict_time": 2.5},
}
PRICES: Mapping[str, Mapping[str, str]] = {
    GUARD: {"predict_time": "0.000975"},
    CHAT: {"input_token_count": "0.00000065", "output_token_count": "0.00000275"},
    NEXT_CHAT: {"input_token_count": "0.000002", "output_token_count": "0.000008"},
    SCHNELL: {"image_output_count": "0.003"},
    PRO: {"image_output_count": "0.04"},
}
"""Dollars for one of each metric, as they were when the folder was written."""
SCENE = re.compile(r"scene (\w+)")


class Fate(StrEnum):
    """What becomes of a create."""

    ENDS = auto()
    RUNS = auto()
    NO_ANSWER = auto()
    """Made, and the answer does not come as long as the server lives."""
    LOST_ANSWER = auto()
    """Made, and the connection is closed."""
    NEVER_HEARD = auto()
    """Neither made nor answered."""
    NEVER_CAME = auto()
    """Not made, and the connection is closed."""
    THROTTLED = auto()


SCENES: Mapping[str, tuple[Fate, ...]] = {
    "settled": (Fate.ENDS,),
    "kept": (Fate.ENDS,),
    "finalizing": (Fate.ENDS,),
    "running": (Fate.RUNS,),
    "streamed": (Fate.RUNS,),
    "screened": (Fate.RUNS,),
    "found": (Fate.LOST_ANSWER,),
    "vanished": (Fate.NEVER_CAME,),
    "several": (Fate.RUNS, Fate.NO_ANSWER),
    "unheard": (Fate.NEVER_HEARD,),
    "throttled": (Fate.THROTTLED,),
    "waiting": (),
}
"""Of each, what becomes of its creates while the first server lives; of the last one for ever."""


@dataclass
class RememberingUpstream:
    """`goes_on`: the first server is dead; whatever is made ends, and files and webhooks work."""

    goes_on: bool = False
    creates: list[dict[str, Any]] = field(default_factory=list)
    """All that were received: scene, model, and the prediction that was made, if any."""
    predictions: dict[str, dict[str, Any]] = field(default_factory=dict)
    webhooks: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    last_event_ids: list[str | None] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    now: Any = lambda: datetime.now(UTC)

    def creates_of(self, scene: str) -> list[dict[str, Any]]:
        """Those that were received for a scene, in order."""
        return [create for create in self.creates if create["scene"] == scene]

    def bill(self) -> dict[str, int]:
        """Nano-dollars by prediction, of all that was made."""
        return {name: _nanos(prediction["model"]) for name, prediction in self.predictions.items()}

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST of a prediction, of a model or of a version."""
        body = await request.json()
        named = request.match_info
        model = f"{named['owner']}/{named['name']}" if "owner" in named else GUARD
        match = SCENE.search(json.dumps(body["input"]))
        assert match, body
        scene = match[1]
        fate = self._fate(scene)
        entry: dict[str, Any] = {"scene": scene, "model": model, "prediction": ""}
        self.creates.append(entry)
        if fate in (Fate.ENDS, Fate.RUNS, Fate.NO_ANSWER, Fate.LOST_ANSWER):
            entry["prediction"] = self._make(scene, model, body["input"], ended=fate == Fate.ENDS)
        async with self.news:
            self.news.notify_all()
        if fate == Fate.THROTTLED:
            text = "Request was throttled. Your rate limit resets in ~600s."
            return web.json_response({"detail": text, "status": 429}, status=429)
        if fate in (Fate.NO_ANSWER, Fate.NEVER_HEARD):
            await asyncio.Event().wait()
        if fate in (Fate.LOST_ANSWER, Fate.NEVER_CAME):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response(
            {**self._prediction_json(entry["prediction"]), "status": "starting"}, status=201
        )

    def _fate(self, scene: str) -> Fate:
        if self.goes_on:
            return Fate.ENDS
        fates = SCENES[scene]
        return fates[min(len(self.creates_of(scene)), len(fates) - 1)]

    def _make(self, scene: str, model: str, given: dict[str, Any], *, ended: bool) -> str:
        name = f"{len(self.predictions):02}{scene}0000000000000000"[:26]
        self.predictions[name] = {
            "id": name,
            "model": model,
            "input": given,
            "created_at": self.now().isoformat(),
            "ended": ended,
        }
        return name

    def _prediction_json(self, name: str) -> dict[str, Any]:
        prediction = self.predictions[name]
        model, at = prediction["model"], prediction["created_at"]
        urls = {"stream": f"{URL}/v1/streams/{name}"} if model in (CHAT, NEXT_CHAT) else {}
        document = {name: prediction[name] for name in ("id", "model", "input", "created_at")}
        document |= {"version": "hidden", "urls": urls, "started_at": at, "status": "processing"}
        # A text that was being streamed is over once the rest of it was read.
        is_over = prediction["ended"] or (self.goes_on and "streamed" not in name)
        if not is_over:
            return document
        picture = f"{URL}/files/{name}.png"
        outputs = {GUARD: "safe", PRO: picture, SCHNELL: [picture]}
        return document | {
            "status": "succeeded",
            "output": outputs.get(model, list(TEXT)),
            "metrics": METRICS[model],
            "completed_at": self.now().isoformat(),
        }

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET of a prediction."""
        name = request.match_info["id"]
        if name not in self.predictions:
            return web.json_response({"detail": "Not found."}, status=404)
        return web.json_response(self._prediction_json(name))

    async def listed(self, _: web.Request) -> web.StreamResponse:
        """GET of the list of predictions, which the first server sees empty."""
        names = reversed(self.predictions) if self.goes_on else ()
        return web.json_response(
            {"results": [self._prediction_json(name) for name in names], "next": None}
        )

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET of a text's events, behind the last one that is known; half of them at first."""
        last = request.headers.get("Last-Event-ID")
        self.last_event_ids.append(last)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        begin = int(last.split(":")[1]) + 1 if last else 0
        prediction = self.predictions[request.match_info["id"]]
        is_over = self.goes_on or prediction["ended"]
        for number in range(begin, len(TEXT) if is_over else len(TEXT) // 2):
            event = f"event: output\nid: 1690212292:{number}\ndata: {TEXT[number]}\n\n"
            await response.write(event.encode())
        if is_over:
            prediction["ended"] = True
            await response.write(b"event: done\nid: 1690212293:0\ndata: {}\n\n")
        else:
            await asyncio.Event().wait()
        return response

    async def file(self, request: web.Request) -> web.StreamResponse:
        """GET of an output; that of one scene cannot be had at first."""
        if "finalizing" in request.match_info["name"] and not self.goes_on:
            return web.Response(status=503)
        return web.Response(body=PNG, content_type="image/png")

    async def hook(self, request: web.Request) -> web.StreamResponse:
        """A caller's receiver of webhooks, which does not answer at first."""
        body = await request.read()
        if not self.goes_on:
            await asyncio.Event().wait()
        async with self.news:
            self.webhooks.append((dict(request.headers), body))
            self.news.notify_all()
        return web.Response()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve at the address that the folder knows."""
        app = web.Application()
        app.router.add_post("/v1/predictions", self.create)
        app.router.add_post("/v1/models/{owner}/{name}/predictions", self.create)
        app.router.add_get("/v1/predictions", self.listed)
        app.router.add_get("/v1/predictions/{id}", self.get)
        app.router.add_get("/v1/streams/{id}", self.stream)
        app.router.add_get("/files/{name}", self.file)
        app.router.add_post("/hook", self.hook)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await _listen(runner)
            yield
        finally:
            await runner.cleanup()


async def _listen(runner: web.AppRunner) -> None:
    for again in range(FREE_SECONDS, -1, -1):
        try:
            await web.TCPSite(runner, ADDRESS, PORT).start()
        except OSError:
            if not again:
                raise
            await asyncio.sleep(1)
        else:
            return


def _nanos(model: str) -> int:
    """What a run costs, exactly, rounded once and half up."""
    total = sum(
        (
            Fraction(str(METRICS[model][name])) * Fraction(usd)
            for name, usd in PRICES[model].items()
        ),
        Fraction(0),
    )
    return int(total * 10**9 + Fraction(1, 2))
