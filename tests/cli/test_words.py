"""Money, sizes and file names as the command line writes them."""

from decimal import Decimal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1.cost_pb2 import COST_STATE_ESTIMATED, COST_STATE_UNKNOWN, Cost
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.medium_pb2 import Media
from mediagate_cli.following import state_in_words
from mediagate_cli.money import bytes_in_words, cost_in_words, dollars, nanos_of
from mediagate_cli.saving import stem_of, suffix_of


@given(st.integers(0, 10**18))
def test_dollars_are_exact(nanos: int) -> None:
    """No nano-dollar is lost on the way to the screen and back."""
    assert nanos_of(dollars(nanos).removeprefix("$")) == nanos
    assert Decimal(dollars(nanos).removeprefix("$")) * 10**9 == nanos


@pytest.mark.parametrize(
    ("nanos", "words"),
    [(0, "$0.00"), (1, "$0.000000001"), (3_000_000, "$0.003"), (12_500_000_000, "$12.50")],
)
def test_dollars_are_readable(nanos: int, words: str) -> None:
    """Without idle zeros, with cents at least."""
    assert dollars(nanos) == words


@pytest.mark.parametrize("typed", ["", "x", "-1", "NaN", "Infinity", "0.0000000001"])
def test_what_is_no_sum_is_refused(typed: str) -> None:
    """A bound on money that cannot be kept is not taken."""
    with pytest.raises(typer.BadParameter):
        nanos_of(typed)


def test_an_unknown_cost_is_not_zero() -> None:
    """Unknown is said; a state that is given is said too."""
    assert cost_in_words(Cost(state=COST_STATE_UNKNOWN)) == "unknown"
    assert cost_in_words(Cost()) == "unknown"
    assert cost_in_words(Cost(usd_nanos=0, state=COST_STATE_ESTIMATED)) == "$0.00 estimated"


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (24_100, "24.1 kB"), (3_200_000, "3.2 MB")],
)
def test_sizes(size: int, words: str) -> None:
    """With the unit that reads best."""
    assert bytes_in_words(size) == words


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
def test_a_file_is_named_for_what_it_is(media: Media, suffix: str) -> None:
    """By media type; else as its link has it."""
    assert suffix_of(media) == suffix


def test_states_in_words() -> None:
    """As they are shown while one waits."""
    assert state_in_words(Generation(state=Generation.STATE_RUNNING)) == "running"
    queued = Generation(state=Generation.STATE_QUEUED, queue_position=3)
    assert state_in_words(queued) == "queued at place 3"
