"""A comparison in small, of real servers: every figure of both sides, and what has none says so."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench import comparison_report
from bench.comparison import Comparison, Rounds
from bench.comparison_rows import JUDGED, NAMES
from bench.measurements import Bench
from bench.run_size import QUICK
from bench.server_processes import Cores, RunningServer
from bench.servers_under_test import ServersUnderTest
from bench.store_bench import StoreBench
from bench.upstream_control import UpstreamControl
from bench.variants import Variant
from mediagate_server.structs import replace
from tests.conftest import Require

SMALL = replace(
    QUICK,
    unary_seconds=0.05,
    burst_tokens=100,
    paced=((50, 0.020, 0.4),),
    idle_streams=50,
    calls_at_once=60,
    stores=(50, 100),
    unfinished=5,
)
REFUSING = {"MEDIAGATE_REQUESTS_PER_MINUTE": "1"}


def rounds(
    control: UpstreamControl,
    upstream: RunningServer,
    folder: Path,
    sides: tuple[Variant, Variant],
    chosen: tuple[str, ...],
    seed: int,
) -> Rounds:
    stage = ServersUnderTest(Cores(None, None), folder, control.url)
    bench = Bench(control, upstream, folder)
    store = StoreBench(stage, bench, SMALL.unary_seconds, SMALL.unfinished)
    return Rounds(sides, bench, store, SMALL, chosen, seed)


def children() -> list[str]:
    """Process ids of this process's children: some may be those of tests before."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return sorted(path.read_text(encoding="ascii").split())


def document(comparison: Comparison) -> dict[str, Any]:
    sides = [Variant("this").document(), Variant("against").document()]
    return comparison_report.document(comparison, sides, {"seed": 1, "rounds": 1})


@pytest.mark.needs_gate
@pytest.mark.timeout(300)
def test_a_round_measures_everything_of_both_sides(
    require: Require, control: UpstreamControl, upstream: RunningServer, tmp_path: Path, seed: int
) -> None:
    require("h2load")
    before = children()
    sides = Variant("this"), Variant("against")
    comparison = rounds(control, upstream, tmp_path, sides, NAMES, seed).run(1)
    assert not comparison.failed
    assert comparison.pairs.keys() == JUDGED.keys()
    for row, figures in JUDGED.items():
        ((this, other),) = comparison.pairs[row]
        for judged in figures:
            assert this[judged.figure] > 0, (row, judged)
            assert other[judged.figure] > 0, (row, judged)
    document_json = document(comparison)
    assert json.loads(json.dumps(document_json)) == json.loads(
        json.dumps(document_json, allow_nan=False)
    )
    assert [row["verdict"] for row in document_json["rows"]] == ["too few rounds"] * len(
        document_json["rows"]
    )
    lines = "\n".join(comparison_report.table(comparison, document_json))
    assert all(row in lines for row in JUDGED)
    assert children() == before


@pytest.mark.needs_gate
@pytest.mark.timeout(120)
def test_a_failing_side_gives_no_figure(
    require: Require, control: UpstreamControl, upstream: RunningServer, tmp_path: Path, seed: int
) -> None:
    """Its settings are the other side's alone: only that one refuses."""
    require("h2load")
    sides = Variant("this"), Variant("against", settings=REFUSING)
    comparison = rounds(control, upstream, tmp_path, sides, ("calls_c1",), seed).run(1)
    assert comparison.failed["calls_c1"].startswith("against: ")
    assert comparison.compared() == []
    assert "calls_c1" in "\n".join(comparison_report.table(comparison, document(comparison)))


def test_ratios_say_better_and_worse_and_are_kept_as_numbers() -> None:
    comparison = Comparison()
    for each in range(6):
        dear, cheap = ({"rps": 900.0 + each, "cpu_us": us} for us in (1_100.0 + each, 1_000.0))
        comparison.pairs["calls_c128"].append((dear, cheap))
    comparison.pairs["start"] = [({"ready_seconds": 1.0, "cpu_seconds": 1.0, "mib": 1.0},) * 2] * 6
    document_json = document(comparison)
    verdicts = {(row["row"], row["figure"]): row["verdict"] for row in document_json["rows"]}
    assert verdicts == {
        ("calls_c128", "cpu_us"): "worse",
        ("calls_c128", "rps"): "no difference seen",
        ("start", "ready_seconds"): "no difference seen",
        ("start", "cpu_seconds"): "no difference seen",
        ("start", "mib"): "no difference seen",
    }
    (worse,) = (row for row in document_json["rows"] if row["verdict"] == "worse")
    assert 1 < worse["low"] <= worse["value"] <= worse["high"]
    assert len(document_json["samples"]["calls_c128"]) == 6
