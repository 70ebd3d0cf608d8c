"""Temporary server on the sandbox, for `demo`: `mediagate serve` on free ports."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from mediagate_cli.interrupts import delay_signals

READY_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0
_PROBE_SECONDS: Final = 1.0


class ServerDidNotStart(Exception):
    """The process ended, or was not ready in time. The message is its output."""


def is_serving(target: str, *, tls: bool = False) -> bool:
    """Whether a server answers at `target` within a second."""
    import grpc

    from mediagate_client import Client

    with Client(target, tls=tls) as client:
        ready = grpc.channel_ready_future(client.channel)
        try:
            ready.result(timeout=_PROBE_SECONDS)
        except grpc.FutureTimeoutError:
            return False
        finally:
            ready.cancel()
        return True


@contextmanager
def temporary_server() -> Iterator[str]:
    """Context manager: a server on the sandbox, as its address.

    It inherits no setting and no token of the environment, so it costs nothing. Raises
    ServerDidNotStart.
    """
    with tempfile.TemporaryDirectory(prefix="mediagate-") as folder, ExitStack() as stack:
        ports = _free_ports(3)
        log = Path(folder) / "server.log"
        output = stack.enter_context(log.open("wb"))
        # Between the two nothing would stop it.
        with delay_signals():
            process = subprocess.Popen(
                [sys.executable, "-m", "mediagate_cli", "serve"],
                env=_environment(ports, folder),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            stack.callback(_stop, process)
        target = f"127.0.0.1:{ports[0]}"
        _wait_until_serving(process, target, log)
        yield target


def _environment(ports: list[int], folder: str) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MEDIAGATE_") and name != "REPLICATE_API_TOKEN"
    }
    return inherited | {
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
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def _wait_until_serving(process: "subprocess.Popen[bytes]", target: str, log: Path) -> None:
    """Poll until the server answers. Raises ServerDidNotStart."""
    probes = int(READY_SECONDS / _PROBE_SECONDS)
    for _ in range(probes):
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
