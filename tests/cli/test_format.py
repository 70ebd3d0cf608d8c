"""Money, sizes and file names as the command line writes them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1.cost_pb2 import COST_STATE_ESTIMATED, COST_STATE_UNKNOWN, Cost
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.medium_pb2 import Media
from mediagate_cli.format import format_bytes, format_cost, format_usd, parse_usd_nanos
from mediagate_cli.progress import format_state
from mediagate_cli.save_files import stem_of, suffix_of


@given(st.integers(0, 10**18))
def test_dollars_are_exact(nanos: int) -> None:
    """No nano-dollar is lost on the way to the screen and back."""
    assert parse_usd_nanos(format_usd(nanos).removeprefix("$")) == nanos
    assert Decimal(format_usd(nanos).removeprefix("$")) * 10**9 == nanos


@pytest.mark.parametrize(
    ("nanos", "words"),
    [(0, "$0.00"), (1, "$0.000000001"), (3_000_000, "$0.003"), (12_500_000_000, "$12.50")],
)
def test_dollars_are_readable(nanos: int, words: str) -> None:
    """Without idle zeros, with cents at least."""
    assert format_usd(nanos) == words


@pytest.mark.parametrize("typed", ["", "x", "-1", "NaN", "Infinity", "0.0000000001"])
def test_invalid_amounts_are_refused(typed: str) -> None:
    """A bound on money that cannot be kept is not taken."""
    with pytest.raises(typer.BadParameter):
        parse_usd_nanos(typed)


def test_an_unknown_cost_is_not_zero() -> None:
    """Unknown is said; a state that is given is said too."""
    assert format_cost(Cost(state=COST_STATE_UNKNOWN)) == "unknown"
    assert format_cost(Cost()) == "unknown"
    assert format_cost(Cost(usd_nanos=0, state=COST_STATE_ESTIMATED)) == "$0.00 estimated"


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (24_100, "24.1 kB"), (3_200_000, "3.2 MB")],
)
def test_sizes(size: int, words: str) -> None:
    """With the unit that reads best."""
    assert format_bytes(size) == words


@given(st.text(max_size=300))
def test_any_prompt_gives_a_plain_file_name(prompt: str) -> None:
    """Short, without separators, never empty, never hidden."""
    stem = stem_of(prompt)
    assert 1 <= len(stem) <= 48
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not stem.startswith("-")


@pytest.mark.parametrize(
    ("media", "suffix"),
    [
        (Media(media_type="image/jpeg", uri="http://x/a.bin"), ".jpg"),
        (Media(media_type="audio/wav"), ".wav"),
        (Media(media_type="model/gltf-binary", uri="http://x/a/out.glb?sig=1.2"), ".glb"),
        (Media(uri="http://x/a"), ".bin"),
    ],
)
def test_a_file_is_named_by_its_media_type(media: Media, suffix: str) -> None:
    """By media type; else as its link has it."""
    assert suffix_of(media) == suffix


def test_states_in_words() -> None:
    """As they are shown while one waits."""
    assert format_state(Generation(state=Generation.STATE_RUNNING)) == "running"
    queued = Generation(state=Generation.STATE_QUEUED, queue_position=3)
    assert format_state(queued) == "queued at place 3"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "running, 29%, about 1 min 30 s left"),
        (78.5, "running, 29%, about 12 s left"),
        (90, "running, 29%, as a rule at most 3 min 30 s left"),
        (299.5, "running, 29%, as a rule at most 1 s left"),
        (300, "running, 29%, longer than usual"),
    ],
)
def test_a_run_is_shown_with_its_share_and_the_time_that_is_left(
    seconds: float, words: str
) -> None:
    """By the median of earlier runs, then by what nine in ten of them took."""
    begun = datetime(2026, 11, 30, 12, tzinfo=UTC)
    running = Generation(state=Generation.STATE_RUNNING, progress=0.29)
    running.expected_complete_time.FromDatetime(begun + timedelta(seconds=90))
    running.expected_complete_time_p90.FromDatetime(begun + timedelta(seconds=300))
    assert format_state(running, begun + timedelta(seconds=seconds)) == words


def test_progress_is_never_rounded_up_to_the_end() -> None:
    """99.9 % is not all of it."""
    for progress, words in ((0.0, "0%"), (0.45, "45%"), (0.999, "99%"), (1.0, "100%")):
        running = Generation(state=Generation.STATE_RUNNING, progress=progress)
        assert format_state(running) == f"running, {words}"
