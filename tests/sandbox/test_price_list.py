"""Price lines: how they are read, and what they come to."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_sandbox.price_list import PriceListError, load_price_list, round_half_up

MODEL = "minimax/video-01"


def charged(tmp_path: Path, lines: str, **metrics: float | str | bool) -> int | None:
    """What a run with these metrics is billed by these lines."""
    file = tmp_path / "prices.toml"
    file.write_text(f'["{MODEL}"]\nlines = {lines}\n')
    return load_price_list(file).charge(MODEL, metrics).nanos


def test_sizes_conditions_and_sums(tmp_path: Path) -> None:
    """All lines whose conditions hold are billed, in thousands or millions where they say so."""
    by_size = '["$3 per million a if b above 2.5", "$4 per thousand a if b up to 2.5"]'
    assert charged(tmp_path, by_size, a=1, b=2.5) == 4_000_000
    assert charged(tmp_path, by_size, a=1, b=2.50001) == 3_000
    by_word = '["$1 per a if c is Pro and d is true", "$2 per a if c is pro"]'
    assert charged(tmp_path, by_word, a=2, c="pro", d=True) == 6 * 10**9
    assert charged(tmp_path, by_word, a=2, c="PRO", d=False) == 4 * 10**9


def test_a_run_that_no_line_fits_has_no_price(tmp_path: Path) -> None:
    """A new resolution upstream is not free; a run that metered nothing used nothing."""
    lines = '["$1 per a if c is pro"]'
    assert charged(tmp_path, lines, a=2, c="ultra") is None
    assert charged(tmp_path, lines, predict_time=3.5) == 0


def test_costs_are_exact_and_rounded_once(tmp_path: Path) -> None:
    """By the digits reported, never by what a float makes of them; halves go up."""
    assert charged(tmp_path, '["$0.000975 per a"]', a=5.1) == 4_972_500
    assert charged(tmp_path, '["$0.1 per thousand a"]', a=0.000005) == 1
    assert charged(tmp_path, '["$0.1 per thousand a"]', a=0.0000049) == 0
    halves = '["$0.4 per thousand a", "$0.1 per thousand b"]'
    assert charged(tmp_path, halves, a=0.000001, b=0.000001) == 1


@given(st.decimals(0, 10**6, places=12, allow_nan=False))
def test_half_up_is_half_up(amount: Decimal) -> None:
    """The same as the decimal module's, which the sandbox does not use."""
    expected = int(amount.to_integral_value(rounding=ROUND_HALF_UP))
    assert round_half_up(Fraction(amount)) == expected


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("x = ", "not TOML"),
        ('["a/b"]\n', "exactly one of lines, hardware, unpriced"),
        ('["a/b"]\nlines = []\nhardware = "cpu"\n', "exactly one of"),
        ('["a/b"]\nprice = "$1"\n', "exactly one of"),
        ('["a/b"]\nlines = []\n', "lines: must be a list"),
        ('["a/b"]\nlines = ["$1 per"]\n', "not a price line: '\\$1 per'"),
        ('["a/b"]\nlines = ["$-1 per a"]\n', "not a price line"),
        ('["a/b"]\nlines = [1]\n', "not a price line"),
        ('["a/b"]\nlines = ["$1 per a if b over 2"]\n', "not a condition: 'b over 2'"),
        ('["a/b"]\nhardware = "gpu-x"\n', "hardware: no rate is known for gpu-x"),
        ('["a/b"]\nunpriced = ""\n', "unpriced: must be a text"),
        ("[hardware]\ncpu = 0.1\n", "hardware.cpu: must be dollars"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, content: str, fault: str) -> None:
    """The message names the file, the model and what is wrong."""
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(PriceListError, match=f"^mine.toml: .*{fault}"):
        load_price_list(file)
