"""`webhooks`: secrets are printed once, what was given up is listed and sent again."""

import json
import subprocess
from pathlib import Path

import pytest

from mediagate_server.store.outbox import DeliverySlots
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.webhooks.http_client import format_secret
from tests.server_process import MEDIAGATE, free_ports, running_server
from tests.store.records import NOON
from tests.webhooks.ended_generations import told


def run(target: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """The command, to its end."""
    return subprocess.run(
        [*MEDIAGATE, "webhooks", *words, "--target", target],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.needs_gate
async def test_what_an_admin_does(tmp_path: Path) -> None:
    """From the first secret to the last try by hand."""
    (port,) = free_ports(1)
    (tmp_path / "data").mkdir()
    async with SqliteStore(tmp_path / "data") as store:
        await told(store, "a", f"http://127.0.0.1:{port}/")
        (callback,) = await store.outbox.due(NOON, DeliverySlots(1, 0, 1), not_ids=(), not_hosts=())
        await store.outbox.mark_failed(callback, None)
        (drawn,) = await store.outbox.get_or_create_secrets("local", NOON)
    with running_server(tmp_path) as gate:
        shown = run(gate.address, "rotate-secret")
        assert (shown.returncode, shown.stdout.strip()) == (0, format_secret(drawn))
        again = run(gate.address, "rotate-secret", "local", "--json")
        assert json.loads(again.stdout)["secret"] != format_secret(drawn)
        listed = run(gate.address, "list")
        assert "evt_a" in listed.stdout
        assert "gen_a" in listed.stdout
        assert [one["id"] for one in json.loads(run(gate.address, "list", "--json").stdout)] == [
            "evt_a"
        ]
        sent = run(gate.address, "redeliver", "evt_a")
        assert sent.returncode == 3
        assert "not delivered, no answer" in sent.stderr
        missing = run(gate.address, "redeliver", "evt_b")
        assert missing.returncode == 1
        assert "no such webhook" in missing.stderr
        nobody = run(gate.address, "rotate-secret", "nobody")
        assert (nobody.returncode, nobody.stdout) == (1, "")
