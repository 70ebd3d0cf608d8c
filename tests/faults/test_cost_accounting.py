"""Every cent known, and nothing left of what is erased: a mixed run of several tenants.

Sum of charges = what budgets have spent = totals of usage = upstream's bill. After DeleteGeneration
the sums stand, and no byte of what was asked or made is in any file, nor in the bucket.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from mediagate.v1 import admin_pb2_grpc, generation_pb2, generations_pb2, generations_pb2_grpc
from mediagate_client import AsyncClient
from mediagate_sandbox.control_client import SandboxControl
from tests.rpc.tenant_keys import channel_of, tenant_key
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import ServerProcess, running_server

from .leftover_data import digests, files_below, forms_of_the_mark, samples, sealed, traces
from .marked_load import MarkedLoad
from .media_locations import FOLDER, MediaLocation
from .spend_totals import (
    SpendTotals,
    billed,
    budgets_of,
    of_generations,
    spent_by_all_accounts,
    with_label,
)

State = generation_pb2.Generation
SPENDERS = ("full", "redacted", "tight", "free")
"""They store more or less of what is asked, and have various budgets; the last has none."""
TENANTS = {
    "boss": "admin = true\n",
    "full": """
store_inputs = "full"
max_in_flight = 0
[tenants.full.budgets.all]
period = "total"
limit_usd = "100000"
[tenants.full.budgets.team-a]
period = "month"
limit_usd = "100000"
label = "team=a"
""",
    "redacted": """
store_inputs = "redacted"
max_in_flight = 0
[tenants.redacted.budgets.monthly]
period = "month"
limit_usd = "100000"
[tenants.redacted.budgets.would-be]
period = "total"
limit_usd = "0.01"
label = "team=b"
shadow = true
""",
    "tight": """
max_in_flight = 0
[tenants.tight.budgets.all]
period = "total"
limit_usd = "0.4"
""",
    "free": "max_in_flight = 0\n",
}
ABOVE_THE_LOAD = {
    "MEDIAGATE_UPSTREAM": "replicate",
    "MEDIAGATE_CREATES_PER_MINUTE": "1000000",
    "MEDIAGATE_READS_PER_MINUTE": "1000000",
    "MEDIAGATE_RECONCILE_SECONDS": "0.5",
    "MEDIAGATE_LOG_LEVEL": "debug",
    "REPLICATE_API_TOKEN": "r8_test",
}


@dataclass
class AccountingRun:
    """A server, its tenants and what they have made. `made` are generations at their ends."""

    folder: Path
    sandbox: SandboxControl
    settings: dict[str, str]
    location: MediaLocation
    generations: dict[str, list[generation_pb2.Generation]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """What the server writes."""
        return self.folder / "gate" / "data"

    def open_server(self) -> AbstractContextManager[ServerProcess]:
        """The next server on the same folder."""
        return running_server(self.folder / "gate", **self.settings)

    async def load(self, server: ServerProcess, count: int, seed: int) -> None:
        """So many calls of each tenant, all at once."""
        async with AsyncExitStack() as stack:
            loads = {}
            for name in SPENDERS:
                channel = await stack.enter_async_context(channel_of(server.address, name))
                loads[name] = MarkedLoad(channel)
            results = await asyncio.gather(
                *(load.run(count, seed + n) for n, load in enumerate(loads.values()))
            )
            self.generations = await self._all(server)
            for (name, load), generations in zip(loads.items(), results, strict=True):
                assert {generation.id for generation in generations} <= {
                    listed.id for listed in self.generations[name]
                }
                print(f"{name}: {len(self.generations[name])} made, refused {dict(load.refused)}")

    async def _all(self, server: ServerProcess) -> dict[str, list[generation_pb2.Generation]]:
        """Whatever each tenant has, as it is shown."""
        by_tenant = {}
        for name in SPENDERS:
            async with channel_of(server.address, name) as channel:
                by_tenant[name] = await all_of(channel)
        return by_tenant

    async def agree(self, server: ServerProcess) -> SpendTotals:
        """Hold all accounts against each other, and give what they say of everybody."""
        bill = await asyncio.to_thread(self.sandbox.bill)
        async with (
            AsyncClient(server.address, api_key=tenant_key("boss")) as boss,
            channel_of(server.address, "boss") as channel,
        ):
            everybody = await spent_by_all_accounts(boss)
            assert everybody.settled == billed(bill) > 0
            assert everybody.charges == len(bill["entries"])
            assert not (await boss.get_reconciliation()).discrepancies
            admin = admin_pb2_grpc.AdminServiceStub(channel)
            totals = SpendTotals()
            for name in SPENDERS:
                async with AsyncClient(server.address, api_key=tenant_key(name)) as own:
                    spent = await spent_by_all_accounts(own, "")
                assert spent == await spent_by_all_accounts(boss, name)
                assert spent == of_generations(self.generations[name])
                await self._check_budgets(admin, name, spent)
                totals += spent
            assert totals == everybody
        return everybody

    async def _check_budgets(
        self, admin: admin_pb2_grpc.AdminServiceAsyncStub, name: str, spent: SpendTotals
    ) -> None:
        for budget in (await budgets_of(admin, name)).values():
            counting = with_label(self.generations[name], budget.label_key, budget.label_value)
            assert budget.spent_usd_nanos == of_generations(counting).known_nanos, budget
            if not budget.label_key:
                assert budget.spent_usd_nanos == spent.known_nanos
            # Only what nobody knows the cost of is held when all have ended.
            assert (budget.reserved_usd_nanos > 0) == (of_generations(counting).unknown > 0), budget
            assert budget.spent_usd_nanos <= budget.limit_usd_nanos or budget.shadow

    def left(self, needles: set[bytes], *, running: bool = True) -> list[str]:
        """Where any of them is: in the server's files, its log, and the bucket. Uploads live on.

        A server that runs reconciles all the time: each page of upstream's list is in a file while
        it is read, and upstream keeps what was asked. Nothing of it may be there once the server
        ended.
        """
        files = files_below(self.data.parent)
        if self.location.bucket:
            files |= self.location.bucket.files()
        skipped = ("uploads/", "data/answers/") if running else ("uploads/",)
        stored = {n: c for n, c in files.items() if not any(prefix in n for prefix in skipped)}
        return traces(stored, needles)


def digests_of(generations: list[generation_pb2.Generation]) -> set[str]:
    """SHA-256 of every output that callers were told is kept."""
    digests = set()
    for generation in generations:
        kind = generation.WhichOneof("output")
        media = {
            "images": generation.images.images,
            "video": [generation.video.video],
            "audio": [generation.audio.audio],
            "raw": generation.raw.media,
        }.get(kind or "", [])
        for medium in media:
            assert medium.id, generation
            assert not medium.HasField("error"), generation
            digests.add(medium.sha256)
    return digests


async def all_of(channel: grpc.aio.Channel) -> list[generation_pb2.Generation]:
    """All generations of a tenant."""
    generations = generations_pb2_grpc.GenerationServiceStub(channel)
    request = generations_pb2.ListGenerationsRequest(page_size=200)
    listed: list[generation_pb2.Generation] = []
    while True:
        page = await generations.ListGenerations(request)
        listed += page.generations
        if not page.next_page_token:
            return listed
        request.page_token = page.next_page_token


async def erase(
    server: ServerProcess, name: str, to_erase: list[generation_pb2.Generation]
) -> None:
    """DeleteGeneration of all, twenty at a time."""
    room = asyncio.Semaphore(20)
    async with channel_of(server.address, name) as channel:
        generations = generations_pb2_grpc.GenerationServiceStub(channel)

        async def erase_one(generation: str) -> None:
            async with room:
                await generations.DeleteGeneration(
                    generations_pb2.DeleteGenerationRequest(id=generation)
                )

        async with asyncio.TaskGroup() as group:
            for each in to_erase:
                group.create_task(erase_one(each.id))


async def every_cent(run: AccountingRun, count: int, seed: int) -> None:
    """The load, the sums, all of it erased by two servers, and the sums again."""
    with run.open_server() as server:
        await run.load(server, count, seed)
        everything = [
            generation for generations in run.generations.values() for generation in generations
        ]
        states = {State.State.Name(generation.state) for generation in everything}
        assert states == {"STATE_SUCCEEDED", "STATE_FAILED", "STATE_CANCELLED"}
        before = await run.agree(server)
        outputs = run.location.outputs(run.data)
        assert digests(outputs) == digests_of(everything)
        needles = {*forms_of_the_mark(), *samples(outputs.values()), *samples(sealed(run.data))}
        print(f"{len(everything)} generations, {before}, {len(needles)} needles")
        assert run.left(needles)
        await erase(server, "full", run.generations["full"])
        assert await run.agree(server) == before
    with run.open_server() as server:
        for name in SPENDERS[1:]:
            await erase(server, name, run.generations[name])
        assert await run.agree(server) == before
        assert run.location.outputs(run.data) == {}
        assert sealed(run.data) == []
        assert run.left(needles) == []
    assert run.left(needles, running=False) == []


@pytest.fixture(params=["folder", "s3"])
def location(request: pytest.FixtureRequest) -> MediaLocation:
    """The folder, and a bucket that is empty."""
    if request.param == "folder":
        return FOLDER
    return MediaLocation.in_a_bucket(request.getfixturevalue("s3"))


async def run_of(folder: Path, location: MediaLocation, count: int, seed: int, **more: str) -> None:
    """A run with a sandbox of its own."""
    text = "".join(
        f'[tenants.{name}]\nkeys = ["env:KEY_OF_{name}"]\n{TENANTS[name]}' for name in TENANTS
    )
    (folder / "gate.toml").write_text(text)
    settings = {
        **ABOVE_THE_LOAD,
        **{f"KEY_OF_{name}": tenant_key(name) for name in TENANTS},
        "MEDIAGATE_CONFIG": str(folder / "gate.toml"),
        **location.settings,
        **more,
    }
    with running_sandbox(folder, *AT_ONCE, *UNLIMITED) as sandbox:
        settings["MEDIAGATE_UPSTREAM_URL"] = sandbox.url
        await every_cent(AccountingRun(folder, sandbox, settings, location), count, seed)


@pytest.mark.timeout(120)
async def test_accounting_of_eighty_generations(
    tmp_path: Path, location: MediaLocation, seed: int
) -> None:
    """The quick form: some 80 generations."""
    await run_of(tmp_path, location, 25, seed)


@pytest.mark.faults_full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("assumed", [{}, {"MEDIAGATE_ASSUME_UNKNOWN_USD": "0.0123"}])
async def test_accounting_of_a_thousand_generations(
    tmp_path: Path, location: MediaLocation, seed: int, assumed: dict[str, str]
) -> None:
    """A thousand generations and more; what nobody knows the price of is unknown, or assumed."""
    await run_of(tmp_path, location, 330, seed, **assumed)
