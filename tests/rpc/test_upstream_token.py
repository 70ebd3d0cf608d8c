"""The API token goes to the configured upstream and nowhere else, whatever its answers say."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from mediagate.v1 import generation_pb2, generations_pb2
from tests.builders import image_request, stream_text_request, text_request

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import Stubs

METRICS = {"input_token_count": 1, "output_token_count": 1, "image_count": 1}


@dataclass
class Elsewhere:
    """A host that is not the upstream, and what it was asked with."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Whatever comes."""
        self.headers.append(dict(request.headers))
        return web.json_response({"id": ID, "status": "succeeded", "output": ["stolen"]})


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    """Listens on a port of its own."""
    host = Elsewhere()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", host.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield host
    await runner.cleanup()


def links(elsewhere: Elsewhere) -> dict[str, Any]:
    """The links of a prediction, all of them to another host."""
    paths = {"get": "get", "cancel": "cancel", "stream": "stream", "web": "web"}
    return {"urls": {name: f"{elsewhere.url}/{path}" for name, path in paths.items()}}


async def test_the_token_is_not_sent_to_other_hosts(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, elsewhere: Elsewhere
) -> None:
    """Get and cancel go to the upstream's own address, streams of strangers are not opened."""
    begun = {"id": ID, "status": "processing", **links(elsewhere)}
    done = {**begun, "status": "succeeded", "output": ["ok"], "metrics": METRICS}
    scripted_upstream.creates = [says(begun, 201)]
    scripted_upstream.gets = [says(begun), says(done)]
    answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
    assert answer.generation.text.text == "ok"
    assert elsewhere.headers == []


async def test_a_cancel_goes_to_the_upstream(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, elsewhere: Elsewhere
) -> None:
    """Not to where `urls.cancel` points."""
    begun = {"id": ID, "status": "processing", **links(elsewhere)}
    scripted_upstream.creates = [says(begun, 201)]
    scripted_upstream.gets = [says(begun)]
    call = stubs.text.StreamText(stream_text_request(prompt="Hello"))
    async for event in call:
        if event.HasField("status") and event.status.state >= _STARTING:
            break
    call.cancel()
    await scripted_upstream.cancelled.wait()
    assert elsewhere.headers == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, elsewhere: Elsewhere, status: int
) -> None:
    """Neither of a create (it stays in doubt) nor of a get (it is asked again)."""
    away = says({}, status, {"Location": f"{elsewhere.url}/v1/predictions/{ID}"})
    done = {"id": ID, "status": "succeeded", "output": ["ok"], "metrics": METRICS}
    scripted_upstream.creates = [says({"id": ID, "status": "processing"}, 201)]
    scripted_upstream.gets = [away, says(done)]
    answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
    assert answer.generation.text.text == "ok"
    scripted_upstream.creates = [away]
    request = text_request(prompt="Again")
    request.wait.FromMilliseconds(0)
    begun = await stubs.text.GenerateText(request)
    watch = stubs.generations.WatchGeneration(
        generations_pb2.WatchGenerationRequest(id=begun.generation.id)
    )
    async for change in watch:
        if change.generation.state >= generation_pb2.Generation.STATE_UNCONFIRMED:
            break
    assert elsewhere.headers == []


async def test_outputs_are_fetched_without_the_token(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, elsewhere: Elsewhere
) -> None:
    """A picture on another host is shown as a link or kept, but never asked for with the token."""
    done = {
        "id": ID,
        "status": "succeeded",
        "output": [f"{elsewhere.url}/a.png"],
        "metrics": METRICS,
    }
    scripted_upstream.creates = [says(done, 201)]
    await stubs.image.GenerateImage(image_request(prompt="A cat"))
    assert all("Authorization" not in headers for headers in elsewhere.headers)


_STARTING = generation_pb2.Generation.STATE_STARTING
