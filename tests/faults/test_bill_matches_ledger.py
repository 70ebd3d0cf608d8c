"""The sandbox's bill and the server's costs are two accounts of the same runs, and must agree."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc

from mediagate.v1 import cost_pb2, generation_pb2
from mediagate_sandbox.control_client import SandboxControl
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import running_server

from .mixed_load import MODELS, MixedLoad

CLAUDE = "anthropic/claude-4.5-sonnet"
SERVER = Path(__file__).parents[2] / "server"
ABOVE_THE_LOAD = {
    "MEDIAGATE_UPSTREAM": "replicate",
    "MEDIAGATE_CREATES_PER_MINUTE": "1000000",
    "MEDIAGATE_READS_PER_MINUTE": "1000000",
    "MEDIAGATE_MAX_IN_FLIGHT": "0",
    "REPLICATE_API_TOKEN": "r8_test",
    # One prediction for each generation, so that both can be counted.
    "MEDIAGATE_USE_FALLBACK": "false",
}
UNKNOWN_STATES = (cost_pb2.COST_STATE_UNKNOWN, cost_pb2.COST_STATE_ASSUMED)


def by_server(generations: Iterable[generation_pb2.Generation]) -> dict[str, int | None]:
    """What the server says of each prediction, none of which is anybody else's.

    A price that the server assumes for want of a list price is none: the bill has none either.
    """
    costs: dict[str, int | None] = {}
    for generation in generations:
        for attempt in generation.attempts:
            assert attempt.prediction_id not in costs
            cost = attempt.cost
            is_known = cost.state == cost_pb2.COST_STATE_SETTLED
            assert is_known or cost.state in UNKNOWN_STATES
            costs[attempt.prediction_id] = cost.usd_nanos if is_known else None
    return costs


def settled(generation: generation_pb2.Generation) -> int:
    """What a generation cost, as far as that is settled."""
    is_known = generation.cost.state == cost_pb2.COST_STATE_SETTLED
    return generation.cost.usd_nanos if is_known else 0


def by_the_sandbox(bill: Any, server_nanos: dict[str, int | None]) -> dict[str, int | None]:
    """What the bill says of each prediction.

    Where nothing was metered it bills nothing: the server may know that (no picture came out of a
    model that is paid by the picture), or not know it, but may not say anything else.
    """
    return {
        entry["id"]: None
        if entry["unmetered"] and server_nanos[entry["id"]] is None
        else entry["nanos"]
        for entry in bill["entries"]
    }


async def run(
    folder: Path, sandbox: SandboxControl, count: int, seed: int, **settings: str
) -> list[generation_pb2.Generation]:
    """A mixed run through a server of its own."""
    environment = {**ABOVE_THE_LOAD, "MEDIAGATE_UPSTREAM_URL": sandbox.url, **settings}
    with running_server(folder, **environment) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await MixedLoad(channel).run(count, seed)


async def test_mixed_load_is_settled_as_billed(tmp_path: Path, seed: int) -> None:
    """1,000 generations of all kinds and ends: equal to the nano-dollar, in sum and one by one."""
    with running_sandbox(tmp_path, *AT_ONCE, *UNLIMITED) as sandbox:
        generations = await run(tmp_path, sandbox, 1000, seed)
        bill = sandbox.bill()
    server_nanos = by_server(generations)
    billed = by_the_sandbox(bill, server_nanos)
    assert server_nanos == billed
    assert len({generation.id for generation in generations}) == 1000 == bill["predictions"]
    total_nanos = sum(nanos for nanos in server_nanos.values() if nanos is not None)
    assert total_nanos == bill["total_nanos"] > 0
    assert total_nanos == sum(settled(generation) for generation in generations)
    states = {entry["status"] for entry in bill["entries"]}
    assert states == {"succeeded", "failed", "canceled"}
    assert {entry["model"] for entry in bill["entries"]} == MODELS
    unknown = [each for each in bill["entries"] if billed[each["id"]] is None]
    print(f"{total_nanos / 1e9:.6f} USD; {len(unknown)} of 1000 unknown to both")


def differing(generations: Iterable[generation_pb2.Generation], bill: Any) -> set[str]:
    """The predictions that the two sides cost differently."""
    server_nanos = by_server(generations)
    billed = by_the_sandbox(bill, server_nanos)
    assert server_nanos.keys() == billed.keys()
    return {prediction for prediction, nanos in billed.items() if server_nanos[prediction] != nanos}


def metered(bill: Any, model: str) -> set[str]:
    """The predictions of a model that were billed by the tokens that they wrote."""
    return {
        entry["id"]
        for entry in bill["entries"]
        if entry["model"] == model and entry["metrics"].get("token_output_count")
    }


async def test_a_price_drift_upstream_is_detected(tmp_path: Path, seed: int) -> None:
    """A thousandth more for every third text of a model: exactly those differ."""
    drift = {"do": "drift_price", "factor": "1.001", "model": CLAUDE, "every": 3}
    with running_sandbox(tmp_path, *AT_ONCE, *UNLIMITED) as sandbox:
        sandbox.faults(drift)
        generations = await run(tmp_path, sandbox, 200, seed)
        bill, fired = sandbox.bill(), sandbox.fired()
    struck = {each["prediction"] for each in fired}
    assert differing(generations, bill) == struck
    assert struck
    assert sum(settled(each) for each in generations) < bill["total_nanos"]


async def test_a_wrong_rate_on_the_bill_is_detected(tmp_path: Path, seed: int) -> None:
    """The sandbox's price file has one digit more than the list: every text that wrote differs."""
    prices = tmp_path / "prices.toml"
    prices.write_text(
        f'["{CLAUDE}"]\nlines = ["$3 per million token_input_count", '
        '"$15.001 per million token_output_count"]\n'
    )
    arguments = (*AT_ONCE, *UNLIMITED, "--prices", str(prices))
    with running_sandbox(tmp_path, *arguments) as sandbox:
        generations = await run(tmp_path, sandbox, 200, seed)
        bill = sandbox.bill()
    wrong = metered(bill, CLAUDE)
    assert differing(generations, bill) == wrong
    assert wrong


async def test_a_wrong_rate_in_the_server_is_detected(tmp_path: Path, seed: int) -> None:
    """The same, in a copy of the server whose catalog has the digit."""
    copy = tmp_path / "server"
    shutil.copytree(SERVER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    wrong_rates = 0
    for file in (copy / "mediagate_server" / "catalog" / "models").glob("*.toml"):
        text = file.read_text()
        wrong = _with_wrong_rate(text)
        wrong_rates += wrong != text
        file.write_text(wrong)
    assert wrong_rates == 1
    with running_sandbox(tmp_path, *AT_ONCE, *UNLIMITED) as sandbox:
        generations = await run(tmp_path, sandbox, 200, seed, PYTHONPATH=str(copy))
        bill = sandbox.bill()
    struck = metered(bill, CLAUDE)
    assert differing(generations, bill) == struck
    assert struck


def _with_wrong_rate(text: str) -> str:
    """A file of the catalog with a digit more in the model's price for what it writes."""
    before, slug, after = text.partition(f'slug = "{CLAUDE}"')
    return before + slug + after.replace('= "15"', '= "15.001"', 1) if slug else text
