"""A server whose sealing key is gone, as its operator sees it."""

from pathlib import Path

import pytest

from tests.server_process import running_server


def test_a_server_without_its_encryption_key_does_not_start(tmp_path: Path) -> None:
    """Words with the file and the way out, and an exit that is no crash."""
    with running_server(tmp_path):
        pass
    key = tmp_path / "data" / "sealing.key"
    key.unlink()
    with (
        pytest.raises(AssertionError, match=r"sealing\.key is missing") as refused,
        running_server(tmp_path),
    ):
        pass
    assert "sealing.key.lost" in str(refused.value)
    assert "Traceback" not in str(refused.value)
    key.with_name("sealing.key.lost").touch()
    with running_server(tmp_path) as server:
        assert "encryption_key_replaced" in server.output.read_text()
