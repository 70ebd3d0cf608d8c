"""A server that may die at any moment and is started again, always at the same addresses."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediagate_sandbox.control_client import SandboxControl
from tests.rpc.tenant_keys import tenant_key
from tests.server_process import ENVIRONMENT, MEDIAGATE

QUICKLY_SURE = {
    "MEDIAGATE_UPSTREAM_CONNECT_TIMEOUT": "1.9",
    "MEDIAGATE_UPSTREAM_CREATE_TIMEOUT": "2",
    "MEDIAGATE_ABSENT_MARGIN": "1",
    "MEDIAGATE_SWEEP_SECONDS": "0.2",
}
"""An upstream that lists what it takes at once: doubts end within seconds."""

ABOVE_THE_LOAD = {
    "MEDIAGATE_CREATES_PER_MINUTE": "1000000",
    "MEDIAGATE_READS_PER_MINUTE": "1000000",
    "MEDIAGATE_MAX_IN_FLIGHT": "0",
}
CALLER = "acme"
"""The tenant that calls; its budgets bound nothing that anybody here asks for, and count it all."""
TENANT = f"""
[tenants.{CALLER}]
keys = ["env:KEY"]
store_inputs = "full"
[tenants.{CALLER}.budgets.all]
period = "total"
limit_usd = "100000"
[tenants.{CALLER}.budgets.daily]
period = "day"
limit_usd = "100000"
[tenants.{CALLER}.budgets.team]
period = "month"
limit_usd = "100000"
label = "team=a"
"""
SECONDS = 60
KILLED = -signal.SIGKILL


class CrashingProcess:
    """One data folder and the servers that serve it, one after the other.

    Upstream is told where to tell of ends, so every prediction names its attempt. All calls are one
    tenant's, who has budgets; what nobody knows the price of is assumed. `settings` are environment
    variables; they win over those set here.
    """

    def __init__(self, folder: Path, upstream: SandboxControl, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "gate.toml").write_text(TENANT)
        self.data = folder / "data"
        self.log = folder / "gate.log"
        self._folder = folder
        self._ports = reserve_ports(3)
        self.address, self.operations, self.web = (
            f"127.0.0.1:{reserved.getsockname()[1]}" for reserved in self._ports
        )
        self._environment = {
            name: os.environ[name] for name in ENVIRONMENT if name in os.environ
        } | {
            "MEDIAGATE_GRPC_ADDRESS": self.address,
            "MEDIAGATE_OPS_ADDRESS": self.operations,
            "MEDIAGATE_WEB_ADDRESS": self.web,
            "MEDIAGATE_DATA_DIR": str(self.data),
            "MEDIAGATE_UPSTREAM_URL": upstream.url,
            "REPLICATE_API_TOKEN": "r8_test",
            "MEDIAGATE_PUBLIC_URL": f"http://{self.web}",
            "MEDIAGATE_CONFIG": str(folder / "gate.toml"),
            "MEDIAGATE_ASSUME_UNKNOWN_USD": "0.0123",
            "MEDIAGATE_RECONCILE_SECONDS": "0.5",
            "KEY": tenant_key(CALLER),
            **QUICKLY_SURE,
            **ABOVE_THE_LOAD,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @asynccontextmanager
    async def of(
        cls, folder: Path, upstream: SandboxControl, **settings: str
    ) -> AsyncIterator[CrashingProcess]:
        """One that is not started yet, and does not outlive the test."""
        process = cls(folder, upstream, **settings)
        try:
            yield process
        finally:
            process.put_down()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._running().pid

    def start(self, failpoint: str = "") -> None:
        """Start the next one; it is to die at the failpoint, where one is named."""
        assert self._process is None or self._process.returncode is not None
        armed = {"MEDIAGATE_FAILPOINT": failpoint} if failpoint else {}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*MEDIAGATE, "serve"],
                cwd=self._folder,
                env=self._environment | armed,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def until_serving(self) -> None:
        """Until it serves. Fails where it ends first."""
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 100),
        ]
        async with grpc.aio.insecure_channel(self.address, options) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            for _ in range(SECONDS):
                try:
                    await check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
                except grpc.aio.AioRpcError:
                    assert self._running().poll() is None, self._last_words()
                else:
                    return
        raise AssertionError(self._last_words())

    async def until_dead(self) -> None:
        """Until it has died by its failpoint."""
        assert await asyncio.to_thread(self._running().wait, SECONDS) == KILLED

    def pause(self) -> None:
        """Let it answer nothing more, connected as it is."""
        self._running().send_signal(signal.SIGSTOP)

    async def kill(self) -> None:
        """`kill -9`. Fails where it has ended by itself."""
        self._running().kill()
        await self.until_dead()

    async def stop(self) -> None:
        """Ask it to drain and go, once it serves; it must end well.

        Until its signal handlers are set, SIGTERM ends a process as it does any other: status -15.
        """
        await self.until_serving()
        self._running().terminate()
        code = await asyncio.to_thread(self._running().wait, SECONDS)
        assert code == 0, f"exit status {code}: {self._last_words()}"

    def put_down(self) -> None:
        """After a test: nothing runs any more, and its ports are anybody's."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for reserved in self._ports:
            reserved.close()

    def check_log(self) -> None:
        """No server has met a bug."""
        said = self.log.read_text()
        for word in ("Traceback", '_crashed"', "late_prediction_found", "generation_quarantined"):
            assert word not in said, said[-8_000:]

    def _last_words(self) -> str:
        return self.log.read_text()[-4_000:]

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


def reserve_ports(count: int) -> list[socket.socket]:
    """Sockets bound to free ports on the loopback: nobody else gets these while they are open.

    A server that was killed is away for a second or two, hundreds of times in some tests: whoever
    looked for a free port in one of them, in another run on this machine say, would take its own.
    They do not listen and let the address be shared, so the server can listen there. Not of the
    range out of which the system gives ports to whoever names none.
    """
    reserved: list[socket.socket] = []
    while len(reserved) < count:
        connection = socket.socket()
        try:
            connection.bind(("127.0.0.1", SystemRandom().randrange(12_000, 32_000)))
        except OSError:
            connection.close()
            continue  # Somebody has it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.append(connection)
    return reserved
