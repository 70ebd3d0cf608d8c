"""Outputs of 160 MiB are kept with the memory of small ones; 2 GiB in the long form."""

from pathlib import Path

import httpx
import pytest

from tests.conftest import Missing
from tests.outputs.large import MIB, MOST_GROWTH, growth_over
from tests.rpc.scripted import scripted_upstream

SIZE = 160 * MIB


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, missing: Missing) -> dict[str, str]:
    """The settings of a gate that keeps media there."""
    if not Path("/proc/self/clear_refs").exists():
        missing("/proc/PID/clear_refs, to measure memory")
    if request.param == "folder":
        return {}
    s3 = request.getfixturevalue("s3")
    assert httpx.put(f"{s3}/large").status_code in (200, 409)
    return {
        "MEDIAGATE_STORAGE_URL": "s3://large/media",
        "MEDIAGATE_STORAGE_ENDPOINT": s3,
        "MEDIAGATE_STORAGE_ACCESS_KEY_ID": "an-id",
        "MEDIAGATE_STORAGE_SECRET_ACCESS_KEY": "a-secret",
    }


async def test_a_large_output(place: dict[str, str], tmp_path: Path) -> None:
    """Kept and read back whole, with at most 16 MiB more at the peak."""
    async with scripted_upstream() as scripted:
        growth = await growth_over(tmp_path, scripted, SIZE, **place)
    print(f"memory grew by {growth / MIB:.1f} MiB")
    assert growth <= MOST_GROWTH, f"{growth / MIB:.1f} MiB"
