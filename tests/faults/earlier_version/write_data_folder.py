"""Writes the data folder and the story of how it came about, with the server of another tree.

    python -m tests.faults.earlier_version.write_data_folder TREE

The server is killed in the midst of its work. Nothing here imports the server: it is called as its
callers do.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import grpc
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediagate.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    generation_pb2,
    generations_pb2,
    generations_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
    medium_pb2,
    options_pb2,
    text_pb2,
    text_pb2_grpc,
)
from tests.rpc.tenant_keys import channel_of, tenant_key
from tests.server_process import ENVIRONMENT, free_ports

from .remembering_upstream import PNG, URL, WEBHOOK_URL, RememberingUpstream

HERE = Path(__file__).parent
FOLDER, STORY = HERE / "data_folder.tar.gz", HERE / "story.json"
CONFIGURATION = """
[tenants.acme]
keys = ["env:ACME"]
store_inputs = "full"
[tenants.acme.budgets.all]
period = "total"
limit_usd = "1000"
[tenants.acme.budgets.team]
period = "month"
limit_usd = "1000"
label = "team=a"
[tenants.boss]
keys = ["env:BOSS"]
admin = true
"""
SETTINGS = {
    "MEDIAGATE_WEBHOOK_NETWORKS": "127.0.0.0/8",
    "MEDIAGATE_UPSTREAM_CREATE_TIMEOUT": "600",
    "MEDIAGATE_ABSENT_MARGIN": "3600",
    "MEDIAGATE_SWEEP_SECONDS": "300",
    "MEDIAGATE_RECONCILE_SECONDS": "0",
}
State, Tried = generation_pb2.Generation, generation_pb2.Attempt
IN_FLIGHT = {
    "settled": State.STATE_SUCCEEDED,
    "kept": State.STATE_SUCCEEDED,
    "finalizing": State.STATE_FINALIZING,
    "running": State.STATE_RUNNING,
    "streamed": State.STATE_RUNNING,
    "screened": State.STATE_RUNNING,
    "found": State.STATE_UNCONFIRMED,
    "vanished": State.STATE_UNCONFIRMED,
    "several": State.STATE_RUNNING,
    "unheard": State.STATE_SUBMITTING,
    "throttled": State.STATE_QUEUED,
    "waiting": State.STATE_QUEUED,
}
"""How each is when the server is killed."""


@asynccontextmanager
async def serving(tree: Path, folder: Path) -> AsyncIterator[str]:
    """A server of that tree, killed in the end; its address."""
    (folder / "mediagate.toml").write_text(CONFIGURATION)
    address, operations = (f"127.0.0.1:{port}" for port in free_ports(2))
    source_folders = ("server", "clients/python", "generated/python")
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {
        "PYTHONPATH": os.pathsep.join(str(tree / folder_name) for folder_name in source_folders),
        "ACME": tenant_key("acme"),
        "BOSS": tenant_key("boss"),
        "MEDIAGATE_CONFIG": str(folder / "mediagate.toml"),
        "MEDIAGATE_DATA_DIR": str(folder / "data"),
        "MEDIAGATE_GRPC_ADDRESS": address,
        "MEDIAGATE_OPS_ADDRESS": operations,
        "MEDIAGATE_UPSTREAM_URL": URL,
        "REPLICATE_API_TOKEN": "r8_test_token",
        **SETTINGS,
    }
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [sys.executable, "-m", "mediagate_cli", "serve"], cwd=folder, env=environment
    )
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30
            )
        yield address
    finally:
        process.kill()
        process.wait()


def request_id(scene: str) -> str:
    """That of a scene's call."""
    return str(uuid5(NAMESPACE_URL, f"{URL}/{scene}"))


def options(**more: Any) -> options_pb2.GenerationOptions:
    """Options of a call that goes on without its caller and never falls out of its time."""
    return options_pb2.GenerationOptions(
        on_disconnect=options_pb2.ON_DISCONNECT_DETACH,
        timeout=Duration(seconds=1_800),
        labels={"team": "a"},
        **more,
    )


def text(scene: str, **more: Any) -> text_pb2.GenerateTextRequest:
    """A request for a text of a scene."""
    return text_pb2.GenerateTextRequest(
        request_id=request_id(scene),
        wait=Duration(),
        prompt=f"scene {scene}",
        options=options(model="llama-70b", **more),
    )


def image(scene: str, model: str = "flux-schnell", **more: Any) -> image_pb2.GenerateImageRequest:
    """A request for a picture of a scene."""
    of_options = {name: more.pop(name) for name in ("screen_prompt", "webhook_url") if name in more}
    fallback = options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)
    return image_pb2.GenerateImageRequest(
        request_id=request_id(scene),
        wait=Duration(),
        prompt=f"scene {scene}",
        options=options(model=model, fallback=fallback, **of_options),
        **more,
    )


def scenes(upload_id: str) -> Iterator[tuple[str, Any]]:
    """All requests that are sent one after the other, the streamed one apart."""
    picture = medium_pb2.MediaInput(upload_id=upload_id)
    yield "settled", text("settled", webhook_url=WEBHOOK_URL)
    yield "kept", image("kept")
    yield "finalizing", image("finalizing", "flux-1.1-pro")
    yield "running", image("running", webhook_url=WEBHOOK_URL)
    yield "screened", image("screened", screen_prompt=True)
    yield "found", image("found")
    yield "vanished", text("vanished")
    yield "several", image("several", "flux-1.1-pro", count=2)
    yield "unheard", image("unheard")
    yield "throttled", text("throttled")
    yield "waiting", image("waiting", "flux-1.1-pro", reference_images=[picture])


async def upload(channel: grpc.aio.Channel) -> str:
    """A picture; the name of the upload."""

    async def pieces() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        yield media_pb2.UploadMediaRequest(
            metadata=media_pb2.UploadMetadata(media_type="image/png")
        )
        yield media_pb2.UploadMediaRequest(chunk=PNG)

    answer = await media_pb2_grpc.MediaServiceStub(channel).UploadMedia(pieces())
    return str(answer.upload_id)


async def until(channel: grpc.aio.Channel, scene: str, generation_id: str) -> None:
    """Until it is as it is to be left, at each of its attempts."""
    stub = generations_pb2_grpc.GenerationServiceStub(channel)
    request = generations_pb2.GetGenerationRequest(id=generation_id)
    while True:
        generation = (await stub.GetGeneration(request)).generation
        states = {attempt.state for attempt in generation.attempts}
        is_left_so = generation.state == IN_FLIGHT[scene]
        if scene == "several":
            is_left_so = {Tried.STATE_ACCEPTED, Tried.STATE_SUBMITTING} <= states
        elif scene == "throttled":
            is_left_so = {Tried.STATE_REFUSED, Tried.STATE_QUEUED} <= states
        elif scene == "screened":
            is_left_so = {Tried.STATE_ACCEPTED, Tried.STATE_QUEUED} <= states
        if is_left_so:
            return
        await asyncio.sleep(0.05)


async def send(
    channel: grpc.aio.Channel,
    request: text_pb2.GenerateTextRequest | image_pb2.GenerateImageRequest,
) -> str:
    """Send one of the requests; the generation's id."""
    if isinstance(request, text_pb2.GenerateTextRequest):
        answer: Any = await text_pb2_grpc.TextServiceStub(channel).GenerateText(request)
    else:
        answer = await image_pb2_grpc.ImageServiceStub(channel).GenerateImage(request)
    return str(answer.generation.id)


async def stream(channel: grpc.aio.Channel) -> tuple[Any, str, Message]:
    """Read the first half of a text, and on; the call, the generation's id and the request."""
    request = text_pb2.StreamTextRequest(
        request_id=request_id("streamed"),
        prompt="scene streamed",
        options=options(model="llama-70b"),
    )
    call = text_pb2_grpc.TextServiceStub(channel).StreamText(request)
    generation_id, read = "", ""
    async for event in call:
        generation_id = generation_id or event.started.generation_id
        read += event.delta.text
        if read == "It has ":
            break
    await asyncio.sleep(1.5)  # A checkpoint is written once a second.
    return call, generation_id, request


def call_record(scene: str, generation_id: str, request: Message) -> Mapping[str, Any]:
    """A call, as the story tells it."""
    return {
        "scene": scene,
        "generation": generation_id,
        "type": request.DESCRIPTOR.full_name,
        "request": json_format.MessageToDict(request),
    }


async def play(address: str) -> dict[str, Any]:
    """Everything that the server is asked for; what was answered."""
    async with channel_of(address, "acme") as channel, channel_of(address, "boss") as admin:
        secret = await admin_pb2_grpc.AdminServiceStub(admin).RotateWebhookSecret(
            admin_pb2.RotateWebhookSecretRequest(tenant="acme")
        )
        upload_id = await upload(channel)
        call, generation_id, request = await stream(channel)
        calls = [call_record("streamed", generation_id, request)]
        for scene, request in scenes(upload_id):
            generation_id = await send(channel, request)
            calls.append(call_record(scene, generation_id, request))
            await until(channel, scene, generation_id)
        page = await generations_pb2_grpc.GenerationServiceStub(channel).ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=5)
        )
        call.cancel()
    return {
        "webhook_secret": secret.secret,
        "upload_id": upload_id,
        "calls": calls,
        "second_page": page.next_page_token,
        "on_the_first_page": [generation.id for generation in page.generations],
    }


def pack(data: Path) -> None:
    """The folder in one file, its write-ahead log put into the database."""
    with closing(sqlite3.connect(data / "mediagate.sqlite3")) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with tarfile.open(FOLDER, "w:gz") as archive:
        archive.add(data, "data")


async def main() -> None:
    """Write both."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("tree", type=Path)
    tree = arguments.parse_args().tree
    upstream = RememberingUpstream()
    with tempfile.TemporaryDirectory() as name:
        async with upstream.serving(), serving(tree, Path(name)) as address:
            story = await play(address)
        story |= {
            "written_at": datetime.now(UTC).isoformat(),
            "creates": upstream.creates,
            "predictions": upstream.predictions,
        }
        pack(Path(name) / "data")
    STORY.write_text(json.dumps(story, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
