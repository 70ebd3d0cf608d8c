"""Outputs of 160 MiB are kept with the memory of small ones; 2 GiB in the long form."""

from pathlib import Path

import pytest

from tests.conftest import Missing
from tests.media.large_output_memory import MIB, check_growth, storage_settings


@pytest.mark.parametrize("location", ["folder", "s3"])
async def test_a_large_output_is_archived_in_bounded_memory(
    location: str, request: pytest.FixtureRequest, missing: Missing, tmp_path: Path
) -> None:
    """Kept and read back whole, with at most 16 MiB more at the peak."""
    await check_growth(tmp_path, 160 * MIB, storage_settings(location, request, missing))
