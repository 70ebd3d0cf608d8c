"""Starting and stopping, alone and embedded, and what the sandbox may know of the others."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

import mediagate_sandbox
from mediagate_sandbox.server import Sandbox, SandboxSettings

from .conftest import Opener
from .sandbox_client import LLAMA

HOUSE = Path(mediagate_sandbox.__file__).parent
OTHERS = {"mediagate", "mediagate_server", "mediagate_client", "mediagate_cli", "grpc", "replicate"}

ALONE = """
import asyncio
from mediagate_sandbox.server import SandboxSettings, run
asyncio.run(run(SandboxSettings(port=0), started=lambda box: print(box.base_url, flush=True)))
"""
LAZY = """
import asyncio, sys
from mediagate_sandbox.server import Sandbox, SandboxSettings
async def main():
    async with Sandbox(SandboxSettings(port=0)):
        print(sorted({"av", "cryptography", "PIL", "numpy"} & set(sys.modules)))
asyncio.run(main())
"""


async def python(code: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": str(HOUSE.parent), "PYTHONWARNINGS": "error"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env=environment
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_server_runs_until_a_signal(number: signal.Signals) -> None:
    """`run` says when it listens and ends well on either signal."""
    process = await python(ALONE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("http://127.0.0.1:")
    process.send_signal(number)
    assert await process.wait() == 0


async def test_media_libraries_are_not_loaded_at_start() -> None:
    """A server that embeds the sandbox does not wait for codecs."""
    process = await python(LAZY)
    assert (await process.communicate())[0] == b"[]\n"


async def test_a_port_in_use_is_an_error() -> None:
    """OSError at once, and nothing is left running."""
    async with Sandbox(SandboxSettings(port=0)) as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with Sandbox(SandboxSettings(port=port)):
                pass


async def test_stopping_closes_open_connections(open_sandbox: Opener) -> None:
    """Running predictions and open streams do not hold it up, and no stream says `done`."""
    async with open_sandbox() as caller:
        document = await caller.created(LLAMA, {"prompt": "x [[hang_after=1]]"})
        answer = await caller.session.get(document["urls"]["stream"])
        await answer.content.readuntil(b"event: output")
        await caller.sandbox.__aexit__(None, None, None)
        with pytest.raises(Exception, match=r"(?i)payload|connection"):
            await answer.read()
        answer.close()


@pytest.mark.parametrize(
    "wrong",
    [{"time_scale": -1}, {"predictions_per_page": 0}, {"cut_streams_after_bytes": -1},
     {"token": ""}, {"creates_per_minute": 0}, {"requests_per_minute": -1}, {"credit": "some"},
     {"webhook_secret": "whsec_"}, {"webhook_interval": -1}, {"webhook_timeout": 0},
     {"run_limit": 0}, {"stream_linger": -1}, {"stream_idle_timeout": 0}, {"data_retention": -1}],
)  # fmt: skip
def test_invalid_settings(wrong: dict[str, object]) -> None:
    """ValueError when they are made, not when they are met."""
    with pytest.raises(ValueError, match=r".+"):
        SandboxSettings(**wrong)  # type: ignore[arg-type]


def test_the_sandbox_does_not_import_the_server() -> None:
    """No file of the sandbox imports another package of the project."""
    for path in HOUSE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            assert not OTHERS & {name.partition(".")[0] for name in names}, path
