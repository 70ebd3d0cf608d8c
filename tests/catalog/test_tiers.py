"""A model is chosen where none is named: the cheapest that does what was asked, with a receipt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.model import Quality
from mediagate_server.catalog.plan import Handling, Plan
from mediagate_server.catalog.request import MediaInput, Modality, ModelRequest, Value
from mediagate_server.errors import MaxCostExceeded, NoModelFits
from mediagate_server.replacing import replace

CATALOG = Catalog.load()
PICTURE = MediaInput("https://example.com/a.png")
TEXT, IMAGE, VIDEO, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO


def asking(modality: Modality, quality: str, **parameters: Value) -> ModelRequest:
    """A request that names no model."""
    return ModelRequest(modality, "", parameters, quality=quality)


def unmet(plan: Plan) -> list[str]:
    """What is not as asked."""
    lost = (Handling.ADJUSTED, Handling.DROPPED)
    return [line.parameter for line in plan.report if line.handling in lost]


@pytest.mark.parametrize(
    ("request_", "slug"),
    [
        (asking(TEXT, "economy", prompt="Hi"), "meta/meta-llama-3-8b-instruct"),
        (asking(IMAGE, "economy", prompt="x"), "black-forest-labs/flux-schnell"),
        (asking(IMAGE, "economy", prompt="x", negative_prompt="y", count=2), "stability-ai/sdxl"),
        (asking(VIDEO, "economy", prompt="x"), "wan-video/wan-2.2-t2v-fast"),
        (asking(AUDIO, "economy", text="Hello"), "qwen/qwen3-tts"),
        (asking(AUDIO, "economy", prompt="x", kind="music"), "google/lyria-2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_cheapest_that_does_it(request_: ModelRequest, slug: str) -> None:
    """Of its quality, with what it leaves to choose from."""
    made = CATALOG.plan(request_)
    assert made.slug == slug
    assert made.requested_model == ""
    assert unmet(made) == []
    assert made.choice is not None
    assert made.choice.reason == (
        "the cheapest of quality economy that honours everything asked for"
    )


MODALITIES: dict[Modality, dict[str, Value]] = {
    TEXT: {"prompt": "Hi"},
    IMAGE: {"prompt": "x", "aspect_ratio": "16:9"},
    VIDEO: {"prompt": "x", "first_frame": PICTURE},
    AUDIO: {"text": "Hello there"},
}


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    modality=st.sampled_from(list(MODALITIES)),
    quality=st.sampled_from([quality.value for quality in Quality]),
    duration=st.sampled_from([None, 4.0, 5.0, 10.0]),
)
def test_the_receipt_is_true(modality: Modality, quality: str, duration: float | None) -> None:
    """Everybody else does less, costs more, has no price or cannot; each figure is its plan's."""
    parameters: dict[str, Value] = {**MODALITIES[modality]}
    if duration is not None and modality is VIDEO:
        parameters["duration"] = duration
    request = ModelRequest(modality, "", parameters, quality=quality)
    made = CATALOG.plan(request)
    assert made.choice is not None
    chosen = CATALOG.find(modality, made.slug)
    assert chosen.quality.value == quality
    for other in made.choice.alternatives:
        model = CATALOG.find(modality, other.model)
        assert model.quality.value == quality
        if other.reason in ("costs more", "costs the same", "its price is not known") or (
            other.reason.startswith("does not honour")
        ):
            plan = CATALOG.plan(replace(request, model=other.model, quality=""))
            assert plan.estimate == other.estimate
            assert len(unmet(plan)) >= len(unmet(made))
            if len(unmet(plan)) == len(unmet(made)) and plan.estimate.expected is not None:
                assert made.estimate.expected is not None
                assert plan.estimate.expected >= made.estimate.expected


def test_lenient_takes_the_most_that_can_be_had_and_strict_refuses() -> None:
    """No model of text takes a seed."""
    request = asking(TEXT, "standard", prompt="Hi", seed=7)
    made = CATALOG.plan(request)
    assert made.choice is not None
    assert unmet(made) == ["seed"]
    assert made.choice.reason.endswith("not as asked: seed")
    with pytest.raises(NoModelFits) as refused:
        CATALOG.plan(replace(request, strict=True))
    metadata = refused.value.failure.metadata
    assert metadata["quality"] == "standard"
    assert metadata["openai/gpt-4.1"] == "does not honour seed"


def test_what_nobody_can_take_is_refused() -> None:
    """There is no premium model that moves its lips to a film, nor an economic film from a film."""
    with pytest.raises(NoModelFits):
        CATALOG.plan(asking(VIDEO, "standard", source_video=PICTURE))


def test_a_bound_of_cost_is_kept() -> None:
    """Who is over it does not fit; where all are, nobody does."""
    request = asking(IMAGE, "premium", prompt="x")
    cheapest = CATALOG.plan(request).estimate.maximum
    assert cheapest is not None
    assert CATALOG.plan(replace(request, max_cost_nanos=cheapest)).estimate.maximum == cheapest
    with pytest.raises(NoModelFits) as refused:
        CATALOG.plan(replace(request, max_cost_nanos=cheapest - 1))
    assert "max_cost_usd_nanos" in str(refused.value.failure.metadata)


def test_the_default_model_unless_the_operator_wants_the_cheapest() -> None:
    """Neither model nor quality named: by the operator's word, of his default's quality."""
    plain = ModelRequest(VIDEO, "", {"prompt": "x"})
    assert CATALOG.plan(plain).slug == "minimax/video-01"
    assert CATALOG.plan(plain).choice is None
    thrifty = Catalog.load(optimises=True)
    made = thrifty.plan(plain)
    assert made.choice is not None
    assert thrifty.find(VIDEO, made.slug).quality is Quality.STANDARD
    dear = CATALOG.plan(plain).estimate.expected
    assert made.estimate.expected is not None
    assert dear is not None
    assert made.estimate.expected < dear
    named = replace(plain, model="minimax-video")
    assert thrifty.plan(named).slug == "minimax/video-01"
    with pytest.raises(MaxCostExceeded):
        thrifty.plan(replace(named, max_cost_nanos=1))
