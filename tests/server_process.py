"""A server as its operator starts it: `mediagate serve`, a process of its own, on the sandbox."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

READY_SECONDS = 30
STOP_SECONDS = 30
MEDIAGATE = (str(Path(sys.executable).parent / "mediagate"),)
# What a server may see of this process's environment: no token and no setting gets in by chance.
ENVIRONMENT = ("HOME", "LANG", "PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that serves: where, as which process, and what it has written so far."""

    address: str
    operations: str
    output: Path
    process: "subprocess.Popen[bytes]"


@contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[ServerProcess]:
    """Starts a server with its data in `folder`, waits until it serves, and stops it in the end.

    `settings` are environment variables; they win over those set here.
    """
    folder.mkdir(exist_ok=True)
    grpc_address, operations, web = (f"127.0.0.1:{port}" for port in free_ports(3))
    log = folder / "gate.log"
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {
        "MEDIAGATE_GRPC_ADDRESS": grpc_address,
        "MEDIAGATE_OPS_ADDRESS": operations,
        "MEDIAGATE_WEB_ADDRESS": web,
        "MEDIAGATE_DATA_DIR": str(folder / "data"),
        "MEDIAGATE_UPSTREAM": "sandbox",
        **settings,
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*MEDIAGATE, "serve"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
        ExitStack() as stack,
    ):
        stack.callback(stop, process)
        server = ServerProcess(grpc_address, operations, log, process)
        wait_until_serving(process, server)
        yield server


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for connection in sockets:
            connection.bind(("127.0.0.1", 0))
        return [connection.getsockname()[1] for connection in sockets]


def wait_until_serving(process: subprocess.Popen[bytes], server: ServerProcess) -> None:
    """Waits for gRPC health to say SERVING; says what the server wrote where it never does."""
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
    with grpc.insecure_channel(server.address, options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for _ in range(READY_SECONDS):
            try:
                answer = health.Check(
                    health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True
                )
            except grpc.RpcError:
                if process.poll() is not None:
                    break
            else:
                assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer
                return
    message = f"the gate does not serve (exit {process.poll()}):\n{server.output.read_text()}"
    raise AssertionError(message)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to drain and go, as an operator's service manager does."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)  # A paused one cannot go.
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
