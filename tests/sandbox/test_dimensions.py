"""How large and how long media are to be, worked out from inputs alone."""

from __future__ import annotations

import pytest

from mediagate_sandbox.generators.dimensions import fill_defaults, video_dimensions
from mediagate_sandbox.models import VideoFacts, load_catalog

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("slug", "given", "size"),
    [
        ("minimax/video-01", {}, (1280, 720)),
        ("minimax/hailuo-02", {}, (1920, 1080)),
        ("minimax/hailuo-02", {"resolution": "768p"}, (1366, 768)),
        ("kwaivgi/kling-v2.1", {}, (1280, 720)),
        ("kwaivgi/kling-v2.1", {"mode": "pro"}, (1920, 1080)),
        ("google/veo-3-fast", {"aspect_ratio": "9:16"}, (1080, 1920)),
        ("bytedance/seedance-1-lite", {"aspect_ratio": "1:1"}, (720, 720)),
        ("bytedance/seedance-1-pro", {"resolution": "480p", "aspect_ratio": "21:9"}, (1120, 480)),
        ("bytedance/seedance-1-pro", {"resolution": "480p", "aspect_ratio": "9:21"}, (480, 1120)),
    ],
)
def test_video_sizes(slug: str, given: dict[str, str], size: tuple[int, int]) -> None:
    """The resolution is the short side, whatever the model calls it; both sides are even."""
    model = CATALOG.by_slug(slug)
    assert model is not None
    assert isinstance(model.facts, VideoFacts)
    assert video_dimensions(model.facts, fill_defaults(model, given)) == size
