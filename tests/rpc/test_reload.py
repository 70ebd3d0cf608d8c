"""Settings that a reload changes while the server runs, seen by its callers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from mediagate.v1 import audio_pb2, models_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.app import Server
from mediagate_server.config import Configuration
from mediagate_server.config.loading import load_settings
from tests.builders import audio_request
from tests.grpc_errors import reason_of, rpc_error

from .stubs import Stubs
from .test_safety_inputs import FLUX, run

OF_THE_TESTS = """
[server]
grpc_address = "127.0.0.1:0"
ops_address = "127.0.0.1:0"
data_dir = "{folder}/data"
[upstream]
url = "{url}"
token = "env:TOKEN"
"""


class Reloaded:
    """A server whose file is written anew, and read again."""

    def __init__(self, folder: Path, url: str) -> None:
        self._file = folder / "gate.toml"
        self._rest = OF_THE_TESTS.format(folder=folder, url=url)
        self._write("")
        self.configuration = Configuration(load_settings(self._file), self._file)

    def set(self, limit: str) -> None:
        """A line of `[limits]`. Nothing of it may need a restart."""
        self._write(limit)
        assert self.configuration.reload() == ()

    def _write(self, limit: str) -> None:
        self._file.write_text(f"{self._rest}[limits]\n{limit}\n")


@pytest.fixture
def reloaded(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reloaded:
    monkeypatch.setenv("TOKEN", "r8_test_token")
    return Reloaded(tmp_path, sandbox.url)


async def test_a_reload_changes_callers_limits(reloaded: Reloaded) -> None:
    """Each is refused before, or after, by the line of the file."""
    song = audio_request(prompt="rain", validate_only=True)
    song.options.max_cost_usd_nanos = 10**9
    risky = audio_pb2.GenerateAudioRequest()
    risky.CopyFrom(song)
    risky.options.when_unconfirmed = options_pb2.WHEN_UNCONFIRMED_NEXT
    weaker = run(FLUX, {"safety_tolerance": 6})
    weaker.validate_only = True
    async with (
        Server(reloaded.configuration) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        stubs = Stubs.on(channel)
        assert (await stubs.audio.GenerateAudio(song)).plan.model == "meta/musicgen"
        assert reason_of(await rpc_error(stubs.audio.GenerateAudio(risky))) == "SCOPE_MISSING"
        assert reason_of(await rpc_error(stubs.models.RunModel(weaker))) == "INVALID_REQUEST"
        reloaded.set("allow_assumed_prices = false")
        other = (await stubs.audio.GenerateAudio(song)).plan
        assert other.model != "meta/musicgen"
        reloaded.set("allow_next_when_unconfirmed = true")
        await stubs.audio.GenerateAudio(risky)
        reloaded.set("allow_weaker_safety = true")
        await stubs.models.RunModel(weaker)


async def test_a_reload_changes_the_message_timeout(reloaded: Reloaded) -> None:
    """Of the calls that come after it."""
    never = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async with (
        Server(reloaded.configuration) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        reloaded.set("receive_timeout = 0.1")
        stub: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(
            "/mediagate.v1.ModelService/ListModels"
        )
        error = await rpc_error(stub(half()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "must come whole within 0.1 s" in str(error.details())
        await Stubs.on(channel).models.ListModels(models_pb2.ListModelsRequest())
