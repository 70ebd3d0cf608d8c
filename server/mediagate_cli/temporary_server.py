"""A gate of one's own for a while: `mediagate serve` on free ports and the sandbox."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

READY_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0
_GLANCE_SECONDS: Final = 1.0


class ServerDidNotStart(Exception):
    """The gate ended, or did not serve in time; its words are what it wrote."""


def is_serving(target: str, *, tls: bool = False) -> bool:
    """Say whether a gate serves at `target`, looking for a second at most."""
    import grpc

    from mediagate_client import Client

    with Client(target, tls=tls) as client:
        ready = grpc.channel_ready_future(client.channel)
        try:
            ready.result(timeout=_GLANCE_SECONDS)
        except grpc.FutureTimeoutError:
            return False
        finally:
            ready.cancel()
        return True


@contextmanager
def temporary_server() -> Iterator[str]:
    """Start a gate on the sandbox and give its address; stop it in the end.

    Nothing of the caller's settings counts, its token least of all: this gate costs nothing.
    Raises ServerDidNotStart.
    """
    with tempfile.TemporaryDirectory(prefix="mediagate-") as folder, ExitStack() as stack:
        ports = _free_ports(3)
        log = Path(folder) / "gate.log"
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "mediagate_cli", "serve"],
            env=_environment(ports, folder),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        stack.callback(_stop, process)
        target = f"127.0.0.1:{ports[0]}"
        _wait(process, target, log)
        yield target


def _environment(ports: list[int], folder: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MEDIAGATE_") and name != "REPLICATE_API_TOKEN"
    }
    return kept | {
        "MEDIAGATE_GRPC_ADDRESS": f"127.0.0.1:{ports[0]}",
        "MEDIAGATE_OPS_ADDRESS": f"127.0.0.1:{ports[1]}",
        "MEDIAGATE_WEB_ADDRESS": f"127.0.0.1:{ports[2]}",
        "MEDIAGATE_DATA_DIR": str(Path(folder) / "data"),
        "MEDIAGATE_UPSTREAM": "sandbox",
    }


def _free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(process: "subprocess.Popen[bytes]", target: str, log: Path) -> None:
    """Return once the gate serves."""
    looks = int(READY_SECONDS / _GLANCE_SECONDS)
    for _ in range(looks):
        if is_serving(target):
            return
        if process.poll() is not None:
            break
    raise ServerDidNotStart(log.read_text(errors="replace").strip() or "it wrote nothing")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
