"""Sizes, shapes and resolutions: what was asked for is kept as far as a model lets it."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.catalog.parameters.contract_fields import FieldKind
from mediagate_server.catalog.parameters.image_size import (
    AspectRatio,
    Dimensions,
    PixelSize,
    VideoSize,
    parse_ratio,
)
from mediagate_server.catalog.parameters.rule import InputDraft, ParameterHandling
from mediagate_server.catalog.request import Size
from mediagate_server.catalog.schemas.input_spec import InputSpec, InputType

SHAPES = ("1:1", "16:9", "9:16", "4:3", "3:4", "21:9")
SIDES = st.integers(1, 10_000)


def draft(**specs: InputSpec) -> InputDraft:
    """An empty input of these names."""
    return InputDraft(specs)


def listed(*words: str) -> InputSpec:
    """A string input that takes these words."""
    return InputSpec(type=InputType.STRING, enum=words)


def side(least: int | None = None, most: int | None = None) -> InputSpec:
    """A width or a height."""
    return InputSpec(type=InputType.INTEGER, min=least, max=most)


@pytest.mark.parametrize(
    ("requested", "sent", "handling"),
    [
        ("16:9", "16:9", ParameterHandling.HONOURED),
        ("32:18", "16:9", ParameterHandling.HONOURED),
        ("2:1", "16:9", ParameterHandling.ADJUSTED),
        ("100:1", "21:9", ParameterHandling.ADJUSTED),
        ("5:6", "3:4", ParameterHandling.ADJUSTED),
    ],
)
def test_an_aspect_ratio_becomes_the_nearest_of_the_list(
    requested: str, sent: str, handling: ParameterHandling
) -> None:
    """The nearest by factor: 2:1 is nearer to 16:9 than to 21:9. Other words are passed over."""
    given_list = draft(shape=listed("custom", *SHAPES))
    outcome = AspectRatio(rule="ratio", to="shape").apply(requested, given_list)
    assert given_list.input == {"shape": sent}
    assert outcome.handling is handling


def test_nearness_of_ratios_is_by_factor() -> None:
    """9:5 is a factor of 1.67 from 3:1 and of 1.8 from 1:1; turned on its side, the same."""
    rule = AspectRatio(rule="ratio", to="shape")
    for requested, expected in (("9:5", "3:1"), ("5:9", "1:3")):
        three = draft(shape=listed("1:1", "3:1", "1:3"))
        rule.apply(requested, three)
        assert three.input == {"shape": expected}


def test_a_ratio_may_have_a_name() -> None:
    """Portrait and landscape, as one model calls them."""
    named = draft(shape=listed("portrait", "landscape"))
    rule = AspectRatio(rule="ratio", to="shape", ratios={"portrait": "9:16", "landscape": "16:9"})
    assert rule.apply("16:9", named).handling is ParameterHandling.HONOURED
    assert named.input == {"shape": "landscape"}


def test_a_size_becomes_an_aspect_ratio_and_an_area() -> None:
    """Always ADJUSTED: the pixels are the model's to choose."""
    rule = AspectRatio(rule="ratio", to="shape", area="mp")
    small = draft(shape=listed(*SHAPES), mp=listed("1", "0.25"))
    assert rule.apply(Size(512, 512), small).handling is ParameterHandling.ADJUSTED
    assert small.input == {"shape": "1:1", "mp": "0.25"}
    large = draft(shape=listed(*SHAPES), mp=listed("1", "0.25"))
    rule.apply(Size(1920, 1080), large)
    assert large.input == {"shape": "16:9", "mp": "1"}


def test_a_size_as_a_string_of_pixels() -> None:
    """Shape before area, the model's own separator, and free where there is no list."""
    words = listed("1024x1024", "1024x1792", "1792x1024")
    rule = PixelSize(rule="pixels", to="size")
    exact, near, shape = draft(size=words), draft(size=words), draft(size=words)
    assert rule.apply(Size(1792, 1024), exact).handling is ParameterHandling.HONOURED
    assert rule.apply(Size(400, 700), near).handling is ParameterHandling.ADJUSTED
    assert rule.apply("1:1", shape).handling is ParameterHandling.EMULATED
    sent = [each.input["size"] for each in (exact, near, shape)]
    assert sent == ["1792x1024", "1024x1792", "1024x1024"]
    free = draft(size=InputSpec(type=InputType.STRING))
    PixelSize(rule="pixels", to="size", separator="*").apply(Size(1280, 720), free)
    assert free.input == {"size": "1280*720"}


@pytest.mark.parametrize(
    ("size", "lines", "shape"),
    [
        (Size(1280, 720), "720p", "16:9"),
        (Size(720, 1280), "720p", "9:16"),
        (Size(3840, 2160), "1080p", "16:9"),
        (Size(100, 100), "480p", "1:1"),
    ],
)
def test_a_video_size_becomes_a_resolution_and_an_aspect_ratio(
    size: Size, lines: str, shape: str
) -> None:
    """The short side counts the lines."""
    frame = draft(lines=listed("480p", "720p", "1080p"), shape=listed(*SHAPES))
    outcome = VideoSize(rule="frame", resolution="lines", ratio="shape").apply(size, frame)
    assert frame.input == {"lines": lines, "shape": shape}
    assert outcome.handling is ParameterHandling.ADJUSTED


def dimensions(step: int) -> Dimensions:
    """Width and height in steps."""
    return Dimensions(rule="dimensions", width="w", height="h", multiple_of=step)


@given(SIDES, SIDES, st.sampled_from([1, 8, 32, 64]))
def test_sizes_are_clamped_and_rounded_to_steps(width: int, height: int, step: int) -> None:
    """Always; and sent as it is where it fits."""
    limits = draft(w=side(250, 1450), h=side(250, 1450))
    outcome = dimensions(step).apply(Size(width, height), limits)
    for name, requested in (("w", width), ("h", height)):
        sent = limits.input[name]
        assert limits.specs[name].problem(sent) == ""
        assert sent % step == 0
        if 250 <= width <= 1450 and 250 <= height <= 1450:
            assert abs(sent - requested) <= step
    same = (limits.input["w"], limits.input["h"]) == (width, height)
    assert outcome.handling is (ParameterHandling.HONOURED if same else ParameterHandling.ADJUSTED)


@given(st.integers(1441, 9000), st.integers(1441, 9000))
def test_an_oversized_size_keeps_its_aspect_ratio(width: int, height: int) -> None:
    """Both sides shrink together, as long as neither falls under its least."""
    limits = draft(w=side(1, 1440), h=side(1, 1440))
    dimensions(1).apply(Size(width, height), limits)
    sent = (limits.input["w"], limits.input["h"])
    assert max(sent) == 1440
    assert min(sent) == pytest.approx(1440 * min(width, height) / max(width, height), abs=1)


@given(st.integers(1, 100), st.integers(1, 100))
def test_an_aspect_ratio_becomes_pixels(width: int, height: int) -> None:
    """EMULATED means exactly that shape; ADJUSTED means that no pixels of it were to be had."""
    limits = draft(w=side(256, 1536), h=side(256, 1536))
    outcome = dimensions(8).apply(f"{width}:{height}", limits)
    sent = Fraction(limits.input["w"], limits.input["h"])
    exact = sent == Fraction(width, height)
    assert outcome.handling is (ParameterHandling.EMULATED if exact else ParameterHandling.ADJUSTED)
    assert outcome.sent == f"{limits.input['w']}x{limits.input['h']}"


@pytest.mark.parametrize("shape", ["1:1", "16:9", "9:16", "3:2", "4:3", "4:5", "21:9"])
def test_common_aspect_ratios_are_exact_and_near_one_megapixel(shape: str) -> None:
    """In the steps of 8 that the models with width and height take."""
    limits = draft(w=side(256, 1536), h=side(256, 1536))
    assert dimensions(8).apply(shape, limits).handling is ParameterHandling.EMULATED
    assert Fraction(limits.input["w"], limits.input["h"]) == parse_ratio(shape)
    assert 700_000 < limits.input["w"] * limits.input["h"] < 1_500_000


@pytest.mark.parametrize(
    ("megapixels", "side_sent", "handling"),
    [
        (1.0, 1000, ParameterHandling.EMULATED),
        (0.25, 496, ParameterHandling.EMULATED),
        (64.0, 1536, ParameterHandling.ADJUSTED),
        (0.01, 256, ParameterHandling.ADJUSTED),
    ],
)
def test_an_area_becomes_a_square(
    megapixels: float, side_sent: int, handling: ParameterHandling
) -> None:
    """Within a twentieth of what was asked it is met; else it is told."""
    limits = draft(w=side(256, 1536), h=side(256, 1536))
    assert dimensions(8).apply(megapixels, limits).handling is handling
    assert limits.input == {"w": side_sent, "h": side_sent}


@pytest.mark.parametrize("word", ["custom", "16x9", "16:", ":9", "0:9", "-1:2", "1.5:1", ""])
def test_values_that_are_not_aspect_ratios(word: str) -> None:
    """None, so that it is never the nearest."""
    assert parse_ratio(word) is None


def test_size_is_allowed_only_for_size_rules() -> None:
    """A model file may give a size only to rules that know sizes."""
    for rule in (AspectRatio, PixelSize, VideoSize, Dimensions):
        assert FieldKind.SIZE in rule.takes
