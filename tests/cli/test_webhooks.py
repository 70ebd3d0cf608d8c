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
from tests.webhooks.ended_generations import deliver_end


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
async def test_webhook_administration(tmp_path: Path) -> None:
    """From the first secret to the last try by hand."""
    (port,) = free_ports(1)
    (tmp_path / "data").mkdir()
    async with SqliteStore(tmp_path / "data") as store:
        await deliver_end(store, "a", f"http://127.0.0.1:{port}/")
        (event,) = await store.outbox.due(NOON, DeliverySlots(1, 0, 1), not_ids=(), not_hosts=())
        await store.outbox.mark_failed(event, None)
        (secret,) = await store.outbox.get_or_create_secrets("local", NOON)
    with running_server(tmp_path) as server:
        rotated = run(server.address, "rotate-secret")
        assert (rotated.returncode, rotated.stdout.strip()) == (0, format_secret(secret))
        again = run(server.address, "rotate-secret", "local", "--json")
        assert json.loads(again.stdout)["secret"] != format_secret(secret)
        listed = run(server.address, "list")
        assert "evt_a" in listed.stdout
        assert "gen_a" in listed.stdout
        assert [
            event["id"] for event in json.loads(run(server.address, "list", "--json").stdout)
        ] == ["evt_a"]
        sent = run(server.address, "redeliver", "evt_a")
        assert sent.returncode == 3
        assert "not delivered, no answer" in sent.stderr
        missing = run(server.address, "redeliver", "evt_b")
        assert missing.returncode == 1
        assert "no such webhook" in missing.stderr
        nobody = run(server.address, "rotate-secret", "nobody")
        assert (nobody.returncode, nobody.stdout) == (1, "")
