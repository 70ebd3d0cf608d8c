"""Kinds of models that are not sold yet: they need data, not code."""

from decimal import Decimal
from pathlib import Path

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import Estimate, compute_cost
from mediagate_server.catalog.request import MediaInput, Modality, ModelRequest, Value
from tests.catalog.builders import exact_estimate, read_models

MODELS = Path(__file__).with_name("more_models.toml").read_text(encoding="utf-8")
CATALOG = Catalog(read_models("more_models.toml", MODELS), defaults={})


def plan_for(modality: Modality, model: str, **parameters: Value) -> Plan:
    """A plan by these models."""
    return CATALOG.plan(ModelRequest(modality, model, {"prompt": "x", **parameters}))


@pytest.mark.parametrize(
    ("resolution", "duration", "usd"),
    [
        ("512p", 6.0, "0.1"),
        ("512p", 7.0, "0.15"),
        ("768p", 3.0, "0.27"),
        ("1080p", 10.0, "0.45"),
    ],
)
def test_a_price_by_resolution_and_length(resolution: str, duration: float, usd: str) -> None:
    """Exact before the run, and the same where upstream says nothing but how many."""
    plan = plan_for(Modality.VIDEO, "maker/clips", resolution=resolution, duration=duration)
    nanos = int(Decimal(usd) * 10**9)
    assert plan.estimate == exact_estimate(nanos)
    assert compute_cost(plan.price, {}, outputs=1) == nanos


def test_other_names_for_duration_and_aspect_ratio() -> None:
    """Seconds, portrait and landscape."""
    plan = plan_for(Modality.VIDEO, "maker/cinema", aspect_ratio="16:9", duration=5.0)
    assert plan.input == {"prompt": "x", "seconds": 8, "aspect_ratio": "landscape"}
    assert plan.estimate == exact_estimate(8 * 100_000_000)


def test_an_image_series_and_its_mode() -> None:
    """The mode is set along with the count, and the count is what is paid."""
    frame = MediaInput("https://example.com/a.png")
    plan = plan_for(
        Modality.IMAGE, "maker/series", count=3, megapixels=3.0, reference_images=(frame, frame)
    )
    assert plan.input == {
        "prompt": "x",
        "size": "2K",
        "max_images": 3,
        "series": "auto",
        "image_input": [frame.uri, frame.uri],
    }
    assert plan.estimate == exact_estimate(90_000_000)


def test_milliseconds_and_formats_by_other_names() -> None:
    """Told in seconds, billed by seconds, and the media type is that of the format."""
    plan = plan_for(Modality.AUDIO, "maker/music", duration=12.5, output_format="wav")
    assert plan.input["music_length_ms"] == 12500
    assert plan.estimate == exact_estimate(103_750_000)
    assert plan.output.media_type == "audio/wav"
    assert plan_for(Modality.AUDIO, "maker/music").output.media_type == "audio/mpeg"


def test_a_deployment_at_an_assumed_price() -> None:
    """Addressed as such; its price is bounded, and known to be a guess."""
    plan = plan_for(Modality.TEXT, "acme/ours", system_prompt="Be brief.")
    assert plan.target == "deployments/acme/ours"
    assert plan.input == {"prompt": "Be brief.\n\nx"}
    assert plan.price.assumed
    assert plan.estimate == Estimate(0, 10_000_000, 300_000_000)
