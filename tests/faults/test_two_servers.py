"""Two servers on one data folder: the second is refused, or takes over and the first writes
nothing.

The full form pauses many times, at moments that nobody chose.
"""

import signal
from pathlib import Path
from random import Random

import grpc
import pytest

from tests.faults.paused_process import (
    IN_USE,
    SECONDS,
    Folder,
    all_ended,
    begin_texts,
    check_billed_once,
    is_serving,
    until_created,
)
from tests.sandbox_process import running_sandbox

TEXTS = 8
ROUNDS = 20


def test_a_second_server_is_refused_with_a_reason(tmp_path: Path) -> None:
    """It names the folder, the process that has it and what to do; the first one serves on."""
    with running_sandbox(tmp_path) as upstream:
        folder = Folder(tmp_path, upstream)
        with folder.open_server("first") as first:
            said = folder.refusal()
            assert IN_USE in said
            assert f"({first.process.pid})" in said
            assert "MEDIAGATE_DATA_DIR" in said
            assert is_serving(first)


def _pause_and_wake(path: Path, texts: int, created: int) -> None:
    """Pauses a server at work, lets another finish that, wakes the first: it ends unwritten."""
    path.mkdir(exist_ok=True)
    with running_sandbox(path, "--time-scale", "0.05", "--creates-per-minute", "0") as upstream:
        folder = Folder(path, upstream)
        with folder.open_server("first") as first, grpc.insecure_channel(first.address) as channel:
            calls = begin_texts(channel, texts)
            until_created(upstream, created)
            with folder.paused_and_followed(first) as second:
                ended = all_ended(second)
                assert len(ended) >= created
                first.process.send_signal(signal.SIGCONT)
                assert first.process.wait(SECONDS) == 1
                said = first.output.read_text()
                assert "mediagate cannot serve: this server stood still" in said
                assert "another one took over" in said
                assert "Traceback" not in said
                # Not a byte of what the first one still had in hand.
                assert all_ended(second) == ended
                check_billed_once(ended, upstream)
            for call in calls:
                # What it answered before it was paused is what was kept.
                if call.exception(timeout=SECONDS) is None:
                    assert call.result().generation == ended[call.result().generation.id]


@pytest.mark.timeout(180)
def test_a_paused_server_writes_nothing_after_resuming(tmp_path: Path) -> None:
    """Paused with texts under way; another one finishes them; each is paid once."""
    _pause_and_wake(tmp_path, TEXTS, TEXTS)


@pytest.mark.faults_full
@pytest.mark.timeout(1_800)
def test_a_server_paused_at_random_moments(tmp_path: Path, seed: int) -> None:
    """Also with creates on their way: stale writes 0, none paid twice, none lost."""
    random = Random(seed)
    for number in range(ROUNDS):
        created = random.randrange(TEXTS + 1)
        print(f"round {number}: paused after {created} creates")
        _pause_and_wake(tmp_path / str(number), TEXTS, created)
