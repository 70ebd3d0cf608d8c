"""One tenant attacks in every way that is known, and another works as usual, at one server.

Right: none of the other's calls fails, the server's memory grows within a bound, nothing that the
attacker is answered is an error that nobody foresaw. In the midst of it all SIGTERM ends the
server, and after a `kill -9` the next one serves.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random

import pytest

from tests.faults.noisy_neighbour.attack import (
    Attack,
    ResponseTally,
    Target,
    become_elsewhere,
    carry_out,
)
from tests.faults.noisy_neighbour.attack_registry import GROUPS
from tests.faults.noisy_neighbour.baseline_load import harmless_load
from tests.faults.noisy_neighbour.hostile_upstream import running_upstream
from tests.faults.noisy_neighbour.shared_server import SharedServer, Usage, processor_seconds
from tests.faults.noisy_neighbour.working_tenant import Report, WorkingTenant

MEBIBYTE = 1024 * 1024
QUICK_SECONDS, FULL_SECONDS = 0.3, 4.0
STARTS_WORKERS = ("upload_of_empty_pieces_mp3", "model_small_values")
"""Attacks for which the server starts the processes that work for it; they are counted from then
on.
"""
ATTACKS_PER_RUN = 12
"""How many attacks the quick form makes together, when it kills and ends the server."""
QUICK_GROWTH = 192 * MEBIBYTE
"""With that of worker processes, which a hostile schema may fill up to their limit."""
FULL_GROWTH, FULL_GROWTH_TOGETHER = 32 * MEBIBYTE, 64 * MEBIBYTE
SLOWER = 3.0
"""How much longer the other's calls may take than under a harmless load that takes as much of a
processor as the attack did in its busiest second."""
LEAST_SHARE = 0.2
"""Of a processor, that the harmless load takes: beside nothing, anything is slow."""


@dataclass
class Scene:
    """A server, the tenant that works at it, and the process that the other attacks from."""

    server: SharedServer
    tenant: WorkingTenant
    attackers: Executor
    random: Random
    problems: list[str] = field(default_factory=list)
    bugs: int = 0
    """Of how many lines of the server's log somebody was blamed already."""

    @classmethod
    @asynccontextmanager
    async def of(cls, folder: Path, seed: int) -> AsyncIterator[Scene]:
        """One whose server serves, and has served before: what it loads once is loaded."""
        random = Random(seed)
        context = multiprocessing.get_context("spawn")
        with (
            running_upstream(folder / "upstream") as upstream,
            ProcessPoolExecutor(1, context, become_elsewhere) as attackers,
        ):
            async with SharedServer.of(folder / "gate", upstream) as server:
                assert isinstance(server, SharedServer)
                server.start()
                await server.until_serving()
                async with WorkingTenant.of(server.address, random) as tenant:
                    scene = cls(server, tenant, attackers, random)
                    await scene.warm_up()
                    yield scene

    async def warm_up(self) -> Report:
        """The tenant works alone for a while: how long its calls usually take."""
        await self.attack(STARTS_WORKERS, 0.1)
        async with self.tenant.working() as report:
            await self.attack([harmless_load.name], 1.0)
        self._note("alone", report)
        return report

    async def attack(
        self, names: Sequence[str], seconds: float, share: float = LEAST_SHARE
    ) -> dict[str, ResponseTally]:
        """Attack in these ways, all at once; share: see Target."""
        server = self.server
        target = Target(
            server.address,
            server.web,
            server.operations,
            server.upstream,
            self.random.getrandbits(32),
            seconds,
            share,
            partial(processor_seconds, server.pid),
        )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.attackers, carry_out, names, target)

    async def struck(self, attack: Attack, seconds: float, growth: int) -> tuple[Report, Usage]:
        """One attack while the tenant works; what was not right is noted."""
        seen = len(self.problems)
        async with self.server.watched() as usage, self.tenant.working() as report:
            answers = (await self.attack([attack.name], seconds))[attack.name]
        self._note(attack.name, report)
        if usage.growth > growth + attack.grpc_growth:
            self.problems.append(f"{attack.name}: grew by {usage.growth / MEBIBYTE:.0f} MiB")
        for code, count in attack.wrong(answers.codes).items():
            words = answers.details.get(code, "")[:200]
            self.problems.append(f"{attack.name}: {count}x {code} {words}")
        print(
            f"{attack.name}: {answers.codes}, {usage.processor_seconds:.1f} s of processor, "
            f"+{usage.growth / MEBIBYTE:.0f} MiB in {usage.seconds:.1f} s\n  {report}"
        )
        print("".join(f"  {code}: {words[:120]}\n" for code, words in answers.details.items()))
        bugs = self.server.bugs()[self.bugs :]
        if bugs:
            self.bugs += len(bugs)
            self.problems.append(f"{attack.name}: {len(bugs)} bugs in the log, such as {bugs[0]}")
        if len(self.problems) > seen:
            await self.server.kill()
            await self.serve_again()
        return report, usage

    async def serve_again(self) -> None:
        """The next server takes up what the last one left, and serves."""
        self.server.start()
        await self.server.until_serving()
        self._note("after a start", await self.tenant.once())

    async def die_and_end(self, attacks: Sequence[Attack], seconds: float) -> None:
        """In the midst of all of them together: `kill -9`, and then an orderly end."""
        names = [attack.name for attack in attacks]
        for end in (self.server.kill, self.server.stop):
            attacking = asyncio.create_task(self.attack(names, seconds))
            await asyncio.sleep(self.random.uniform(0.5, 1.0) * seconds)  # The fault's own moment.
            began = time.monotonic()
            await end()
            print(f"{end.__name__} took {time.monotonic() - began:.1f} s")
            await attacking
            await self.serve_again()
        await self.server.stop()

    def check(self) -> None:
        """Everything was right."""
        bugs = self.server.bugs()[self.bugs :]
        self.problems += [f"all together: {line}" for line in bugs[:3]]
        assert not self.problems, "\n".join(self.problems)

    def _note(self, name: str, report: Report) -> None:
        self.problems += [f"{name}: {words}" for words in report.failures]


@pytest.mark.timeout(300)
async def test_other_tenants_are_not_failed_by_an_attack(tmp_path: Path, seed: int) -> None:
    """The quick form: each for a moment, some that are drawn all at once."""
    print(f"seed {seed}")
    attacks = list(chain(*GROUPS.values()))
    async with Scene.of(tmp_path, seed) as scene:
        for attack in attacks:
            await scene.struck(attack, QUICK_SECONDS, QUICK_GROWTH)
        await scene.die_and_end(scene.random.sample(attacks, ATTACKS_PER_RUN), 1.0)
        scene.check()


@pytest.mark.faults_full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("group", GROUPS)
async def test_other_tenants_are_not_delayed_by_an_attack(
    tmp_path: Path, seed: int, group: str
) -> None:
    """Each attack compared with a harmless load of equal processor time; 32 MiB, 64 together."""
    print(f"seed {seed}")
    async with Scene.of(tmp_path, seed) as scene:
        usual = await scene.warm_up()
        before = scene.server.resident()
        for attack in GROUPS[group]:
            report, usage = await scene.struck(attack, FULL_SECONDS, FULL_GROWTH)
            share = max(LEAST_SHARE, usage.busiest)
            async with scene.tenant.working() as calm:
                await scene.attack([harmless_load.name], FULL_SECONDS, share)
            ratio = report.slowness(usual) / calm.slowness(usual)
            print(f"  {ratio:.1f} times as slow as under a harmless load of {share:.2f}: {calm}")
            if ratio > SLOWER:
                scene.problems.append(f"{attack.name}: {ratio:.1f} times as slow")
        grown = scene.server.resident() - before
        print(f"together +{grown / MEBIBYTE:.0f} MiB")
        if grown > FULL_GROWTH_TOGETHER:
            scene.problems.append(f"together: grew by {grown / MEBIBYTE:.0f} MiB")
        await scene.die_and_end(GROUPS[group], FULL_SECONDS)
        scene.check()
