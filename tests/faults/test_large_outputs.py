"""Outputs of 2 GiB are kept with the memory of small ones."""

from pathlib import Path

import pytest

from tests.conftest import Missing
from tests.media.large_output_memory import MIB, check_growth, storage_settings

pytestmark = [pytest.mark.faults_full, pytest.mark.timeout(900)]


@pytest.mark.parametrize("storage", ["folder", "s3"])
async def test_a_large_output_is_archived_in_bounded_memory(
    storage: str, request: pytest.FixtureRequest, missing: Missing, tmp_path: Path
) -> None:
    """Kept and read back whole, with at most 16 MiB more at the peak."""
    await check_growth(tmp_path, 2048 * MIB, storage_settings(storage, request, missing))
