"""`mediagate reconcile`: what was found, as a table and for programs."""

import json
from datetime import UTC, datetime, timedelta

from mediagate.v1.usage_pb2 import (
    Discrepancy,
    GetReconciliationResponse,
    ReconciliationCounts,
    ReconciliationPass,
)
from tests.client.scripted_server import ScriptedServer

from .conftest import Mediagate


def reconciliation() -> GetReconciliationResponse:
    """Two cases, and a pass."""
    response = GetReconciliationResponse(
        last_pass=ReconciliationPass(
            complete=True, listed=7, counts=ReconciliationCounts(matched=5, orphans=1)
        ),
        counts=ReconciliationCounts(matched=40, orphans=1, cost_differs=1),
        discrepancies=[
            Discrepancy(kind=Discrepancy.KIND_ORPHAN, prediction_id="p1", model="a/b"),
            Discrepancy(
                kind=Discrepancy.KIND_COST,
                prediction_id="p2",
                model="c/d",
                generation_id="gen_1",
                ledger_usd_nanos=25_000_000,
                upstream_usd_nanos=50_000_000,
            ),
        ],
    )
    response.last_pass.end_time.FromDatetime(datetime(2026, 11, 24, 12, tzinfo=UTC))
    return response


def test_as_a_table(scripted_server: ScriptedServer, mediagate: Mediagate) -> None:
    """Cases to stdout, sums to people; of the last day."""
    scripted_server.plays("GetReconciliation", reconciliation())
    done = mediagate("reconcile")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[1][:3] == ["orphan", "p1", "a/b"]
    assert rows[2][:6] == ["cost", "p2", "c/d", "gen_1", "$0.025", "$0.05"]
    assert "2026-11-24 12:00:00 UTC, read 7 predictions: 5 matched" in done.stderr
    assert "40 matched, 0 missing upstream, 1 not ours, 1 of another cost" in done.stderr
    [request] = scripted_server.requests_of("GetReconciliation")
    since = datetime.now(UTC) - request.start_time.ToDatetime(UTC)
    assert timedelta(hours=23) < since < timedelta(hours=25)


def test_for_programs(scripted_server: ScriptedServer, mediagate: Mediagate) -> None:
    """JSON, and a number at the end where that is asked for."""
    for response in (reconciliation(), GetReconciliationResponse()):
        scripted_server.plays("GetReconciliation", response)
    done = mediagate("reconcile", "--json", "--check", "--hours", "1")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["counts"] == {
        "matched": "40",
        "orphans": "1",
        "cost_differs": "1",
    }
    quiet = mediagate("reconcile", "--check")
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert "No pass was made yet" in quiet.stderr
