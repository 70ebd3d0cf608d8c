"""Power loss, in full: 600 states of a disk that lost power while the store was at work."""

from random import Random

import pytest

from tests.store.power_loss import Verdict, judge, write_down

STATES = 600
RUNS = 12

pytestmark = [pytest.mark.faults_full, pytest.mark.timeout(600)]


async def _verdict(seed: int, synchronous: str) -> Verdict:
    random, verdict = Random(seed), Verdict()
    for run in range(RUNS):
        events = await write_down(seed + run, synchronous)
        judge(events, STATES // RUNS, random, verdict)
    print(f"{synchronous}: {verdict}")
    return verdict


async def test_no_acknowledged_write_is_lost(seed: int) -> None:
    """Acknowledged commits lost 0, corrupt 0."""
    verdict = await _verdict(seed, "FULL")
    assert (verdict.states, verdict.lost, verdict.corrupt) == (STATES, 0, 0)
    assert verdict.promises > STATES * 10


async def test_the_simulation_detects_loss_with_synchronous_normal(seed: int) -> None:
    """The same with synchronous=NORMAL: it loses, and stays whole."""
    verdict = await _verdict(seed, "NORMAL")
    assert verdict.lost > STATES // 4
    assert verdict.corrupt == 0
