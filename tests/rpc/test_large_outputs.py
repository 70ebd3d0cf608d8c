"""Outputs of 160 MiB are kept with the memory of small ones; 2 GiB in the long form."""

from pathlib import Path

import pytest

from tests.conftest import Missing
from tests.media.large_output_memory import MIB, check_growth, settings_to_keep_in


@pytest.mark.parametrize("location", ["folder", "s3"])
async def test_a_large_output(
    location: str, request: pytest.FixtureRequest, missing: Missing, tmp_path: Path
) -> None:
    """Kept and read back whole, with at most 16 MiB more at the peak."""
    await check_growth(tmp_path, 160 * MIB, settings_to_keep_in(location, request, missing))
