"""Race for a budget in full: eight processes of callers on one server, and the bare statement."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mediagate_sandbox.control_client import SandboxControl
from mediagate_server.store.budgets import period_of
from mediagate_server.store.sqlite import budget_rows, connect
from mediagate_server.store.sqlite.budget_rows import BudgetRowKey
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import running_server
from tests.store import budget_race
from tests.store.records import NOON
from tests.store.test_budget_race import race_results

pytestmark = [pytest.mark.faults_full, pytest.mark.timeout(600)]

CALLERS = 8
UNITS = 200
UNIT = 3_000_000
KEY = "mgk_acme_0123456789abcdef"
SETTINGS = f"""
[tenants.acme]
keys = ["env:ACME_KEY"]
max_in_flight = 0
[tenants.acme.budgets.b]
period = "total"
limit_usd = "{UNITS * UNIT / 1e9:.3f}"
"""
CALLER = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from mediagate_client import Client, QuotaExceeded

def until_refused(client):
    made = 0
    while True:
        try:
            made += client.generate_image("x", model="flux-schnell").cost.usd_nanos
        except QuotaExceeded as error:
            return made, error.reason

with Client(sys.argv[1]) as client, ThreadPoolExecutor(4) as pool:
    print(json.dumps(list(pool.map(until_refused, [client] * 4))))
"""


def test_eight_processes_never_exceed_the_budget(tmp_path: Path) -> None:
    """Each calls until it is refused: 200 units are paid, by the bill of upstream too."""
    (tmp_path / "gate.toml").write_text(SETTINGS)
    settings = {
        "MEDIAGATE_CONFIG": str(tmp_path / "gate.toml"),
        "MEDIAGATE_CREATES_PER_MINUTE": "1000000",
        "MEDIAGATE_READS_PER_MINUTE": "1000000",
        "REPLICATE_API_TOKEN": "r8_test_token",
        "ACME_KEY": KEY,
    }
    with running_sandbox(tmp_path, *UNLIMITED, *AT_ONCE) as sandbox:
        settings["MEDIAGATE_UPSTREAM_URL"] = sandbox.url
        with running_server(tmp_path / "gate", **settings) as server:
            outcomes = _call(server.address)
        bill = SandboxControl(sandbox.url).bill()
    assert {reason for _, reason in outcomes} == {"BUDGET_EXCEEDED"}
    assert sum(units for units, _ in outcomes) == UNITS * UNIT
    assert (bill["predictions"], bill["total_nanos"]) == (UNITS, UNITS * UNIT)
    connection = connect(tmp_path / "gate" / "data" / "mediagate.sqlite3")
    scope = BudgetRowKey("acme", period_of("total", NOON), "", "")
    assert budget_rows.read_usage(connection, scope) == (UNITS * UNIT, 0)
    assert budget_rows.sum_ledger(connection, scope) == (UNITS * UNIT, 0)
    connection.close()


def _call(address: str) -> list[tuple[int, str]]:
    """What each thread of each process was paid for, and what it was told in the end."""
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", CALLER, address],
            env={"MEDIAGATE_API_KEY": KEY},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(CALLERS)
    ]
    outputs = [caller.communicate(timeout=300)[0] for caller in callers]
    assert [caller.returncode for caller in callers] == [0] * CALLERS
    return [(units, reason) for output in outputs for units, reason in json.loads(output)]


@pytest.mark.parametrize("turn", range(20))
def test_budget_races_repeated(turn: int, tmp_path: Path) -> None:
    """What the quick form does once."""
    for take in (budget_race.by_accepting, budget_race.by_statement):
        folder = tmp_path / take.__name__
        folder.mkdir()
        assert race_results(folder, take)[0] == budget_race.UNITS
    assert race_results(tmp_path, budget_race.naively)[0] > budget_race.UNITS
