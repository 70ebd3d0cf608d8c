"""The server that two tenants share, as a process: how it is set, what it takes, how it ends."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from mediagate_sandbox.control_client import SandboxControl
from tests.faults.crashing_process import CrashingProcess
from tests.process_memory import Memory
from tests.rpc.tenant_keys import tenant_key

WORKING, HOSTILE, POOR = "working", "hostile", "poor"
"""Who works, who attacks, and whom the attacker also is: one without any budget left."""
CONFIG = f"""
[tenants.{WORKING}]
keys = ["env:WORKING_KEY"]
store_inputs = "full"
[tenants.{WORKING}.budgets.all]
period = "total"
limit_usd = "100000"
[tenants.{HOSTILE}]
keys = ["env:HOSTILE_KEY"]
store_inputs = "full"
[tenants.{HOSTILE}.budgets.all]
period = "total"
limit_usd = "1000"
shadow = true
[tenants.{POOR}]
keys = ["env:POOR_KEY"]
[tenants.{POOR}.budgets.all]
period = "total"
limit_usd = "0"
"""
SETTINGS = {
    "WORKING_KEY": tenant_key(WORKING),
    "HOSTILE_KEY": tenant_key(HOSTILE),
    "POOR_KEY": tenant_key(POOR),
    "MEDIAGATE_WEBHOOK_NETWORKS": "127.0.0.0/8",
    "MEDIAGATE_DRAIN_SECONDS": "1",
    "MEDIAGATE_LEASE_SECONDS": "2",
    "MEDIAGATE_RECONCILE_SECONDS": "300",
    "MEDIAGATE_SWEEP_SECONDS": "1",
    "MEDIAGATE_LOG_LEVEL": "warning",
    # The account's rates are shared, and what one takes of them is part of the attacks.
    "MEDIAGATE_CREATES_PER_MINUTE": "6000",
    "MEDIAGATE_READS_PER_MINUTE": "12000",
    "MEDIAGATE_MAX_IN_FLIGHT": "500",
}
_TICK = 0.02
_HERTZ = os.sysconf("SC_CLK_TCK")


class SharedServer(CrashingProcess):
    """A server for two tenants; killed and started again at the same addresses."""

    def __init__(self, folder: Path, upstream: SandboxControl, **settings: str) -> None:
        config = folder / "tenants.toml"
        own = SETTINGS | {"MEDIAGATE_CONFIG": str(config)}
        super().__init__(folder, upstream, **(own | settings))
        config.write_text(CONFIG)
        self.upstream = upstream.url

    def resident(self) -> int:
        """Bytes of its own in memory, those of its children with them."""
        total = 0
        for pid in processes_of(self.pid):
            with suppress(OSError, AssertionError):  # It has ended meanwhile.
                total += Memory(pid).anonymous()
        return total

    def bugs(self) -> list[str]:
        """What it has logged of bugs and of foreign bytes: the lines, in short."""
        words = ("Traceback", '_crashed"', "late_prediction_found", "aiohttp.server")
        lines = self.log.read_text(errors="replace").splitlines()
        line_numbers = [at for at, line in enumerate(lines) if any(word in line for word in words)]
        return [
            " | ".join(lines[at : at + 30 * ("Trace" in lines[at]) + 1])[:1_500]
            for at in line_numbers
        ]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Usage]:
        """What it takes while this is entered."""
        usage = Usage(self.resident(), processor_seconds(self.pid))
        watching = asyncio.create_task(usage.watch(self))
        try:
            yield usage
        finally:
            watching.cancel()
            usage.see(self)


class Usage:
    """What a server takes from some moment on."""

    def __init__(self, resident: int, processor_seconds: float) -> None:
        self._resident = self._most = resident
        self._since = processor_seconds
        self._began = time.monotonic()
        self.processor_seconds = self.seconds = 0.0
        self._seen = deque([(0.0, 0.0)])
        self.busiest = 0.0
        """Of a processor, in whichever second it took most of it."""

    @property
    def growth(self) -> int:
        """Bytes at most above what there was."""
        return self._most - self._resident

    def see(self, server: SharedServer) -> None:
        """Look once."""
        self._most = max(self._most, server.resident())
        self.processor_seconds = processor_seconds(server.pid) - self._since
        self.seconds = time.monotonic() - self._began
        self._seen.append((self.seconds, self.processor_seconds))
        while self.seconds - self._seen[0][0] > 1.0:
            since, cpu_seconds = self._seen.popleft()
            share = (self.processor_seconds - cpu_seconds) / (self.seconds - since)
            self.busiest = max(self.busiest, share)

    async def watch(self, server: SharedServer) -> None:
        """Look again and again."""
        while True:
            self.see(server)
            await asyncio.sleep(_TICK)


def processes_of(pid: int) -> list[int]:
    """A process and all that it has started and that still runs."""
    pids = [pid]
    for child_pid in pids:
        with suppress(OSError):
            tasks = list((Path("/proc") / str(child_pid) / "task").iterdir())
            pids += [int(child) for task in tasks for child in _children(task)]
    return pids


def processor_seconds(pid: int) -> float:
    """What a process and its children have taken of the processors so far."""
    ticks = 0
    for process_id in processes_of(pid):
        with suppress(OSError):
            fields = (
                (Path("/proc") / str(process_id) / "stat").read_text().rpartition(")")[2].split()
            )
            ticks += sum(map(int, fields[11:15]))
    return ticks / _HERTZ


def _children(task: Path) -> list[str]:
    with suppress(OSError):
        return (task / "children").read_text().split()
    return []
