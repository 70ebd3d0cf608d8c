"""Power goes at any moment: what was acknowledged is there, and the file is whole.

The full form, of 600 states, is in tests/faults.
"""

from random import Random

from tests.store.power_loss import Verdict, judge, write_down


async def test_no_acknowledged_write_is_lost(seed: int) -> None:
    """Our statements, our migrations, writes that are dropped or torn."""
    verdict = Verdict()
    judge(await write_down(seed, "FULL"), 60, Random(seed), verdict)
    assert (verdict.states, verdict.lost, verdict.corrupt) == (60, 0, 0)
    assert verdict.promises > 1_000


async def test_the_simulation_detects_loss_with_synchronous_normal(seed: int) -> None:
    """With synchronous=NORMAL a commit is acknowledged before it is on the disk."""
    verdict = Verdict()
    judge(await write_down(seed, "NORMAL"), 60, Random(seed), verdict)
    assert verdict.lost > 10
