"""A run of the bench in small: every figure is there, from real servers, and nothing is left."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import report
from bench.bench_run import BenchRun
from bench.measurements import Bench, medians
from bench.run_size import QUICK
from bench.server_processes import Cores, RunningServer
from bench.servers_under_test import AVERAGE, ECHO, MEDIAGATE, ServersUnderTest
from bench.upstream_control import UpstreamControl
from mediagate_server.structs import replace
from tests.conftest import Require

SMALL = replace(
    QUICK,
    unary_rounds=1,
    unary_seconds=0.05,
    burst_rounds=1,
    starts=1,
    burst_tokens=100,
    paced=((50, 0.020, 0.4),),
    idle_streams=50,
    calls_at_once=60,
    stores=(50, 100),
    unfinished=5,
)
UNPINNED = Cores(None, None)


@pytest.mark.needs_gate
@pytest.mark.timeout(300)
def test_a_small_run_has_every_figure_and_leaves_no_process(
    require: Require, control: UpstreamControl, upstream: RunningServer, tmp_path: Path
) -> None:
    require("h2load")
    before = _children()
    stage = ServersUnderTest(UNPINNED, tmp_path, control.url)
    results = BenchRun(SMALL, stage, Bench(control, upstream, tmp_path)).measure_all()
    document = report.document(
        results,
        extent="small",
        cores={"server": None, "load": None},
        variant=stage.variant.document(),
    )
    assert json.loads(json.dumps(document)) == document
    assert all(goal["got"] > 0 for goal in document["goals"])
    assert len(document["goals"]) == 6
    unary: Mapping[str, Mapping[str, float]] = results["unary succeeded c128"]
    assert set(unary) == {ECHO, AVERAGE, MEDIAGATE}
    assert unary[MEDIAGATE]["commits_per_call"] > 0
    assert unary[MEDIAGATE]["commit_ms"] > 0
    assert results["calls at once 60"][MEDIAGATE]["answered"] == 1
    for size in SMALL.stores:
        assert results[f"store {size} list"][MEDIAGATE]["p50_ms"] > 0
        started = results[f"store {size} start"][MEDIAGATE]
        assert started["recovered_seconds"] >= started["ready_seconds"] > 0
    assert len(document["readings"]) == 8
    assert document["side"]["interpreter"]["version"] == platform.python_version()
    assert results["idle"][MEDIAGATE]["reached_upstream"] == 50
    assert results["paced s50 20ms"][MEDIAGATE]["reached_upstream"] == 50
    assert _children() == before >= {upstream.pid}
    assert not list(tmp_path.glob("data-*"))


def _children() -> set[int]:
    """Processes that this one has started and that live."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in path.read_text(encoding="ascii").split()}


def test_the_median_of_each_figure_is_reported() -> None:
    assert medians([{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]) == {
        "a": 3.0,
        "b": 4.0,
    }


def results(server_rps: float) -> report.Results:
    return {
        "unary succeeded c128": {
            ECHO: {"rps": 6_000.0},
            AVERAGE: {"rps": 700.0, "cpu_us": 1_400.0},
            MEDIAGATE: {"rps": server_rps, "cpu_us": 700.0},
        },
        "burst s50": {
            AVERAGE: {"tokens_per_second": 10_000.0},
            MEDIAGATE: {"tokens_per_second": 120_000.0},
        },
        "paced s50 20ms": {
            AVERAGE: {"cpu_us_per_token": 100.0},
            MEDIAGATE: {"cpu_us_per_token": 51.0},
        },
        "idle": {MEDIAGATE: {"kib_per_stream": 56.0}},
        "start": {MEDIAGATE: {"ready_seconds": 0.5}},
    }


def test_ratios_come_first_and_say_whether_they_hold() -> None:
    lines = list(report.table(results(1_080.0)))
    assert lines[0] == "Ratios within this run"
    verdicts = [line.split()[-1] for line in lines[1:7]]
    assert verdicts == ["met", "met", "met", "MISSED", "met", "met"]
    assert lines[7].startswith("  CPU per call at 128, of the average gateway's ")
    assert float(lines[7].split()[-1]) == 0.5
    missed = list(report.table(results(1_049.0)))
    assert [line.split()[-1] for line in missed[1:3]] == ["MISSED", "MISSED"]
