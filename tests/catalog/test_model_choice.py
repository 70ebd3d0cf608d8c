"""A model is chosen where none is named: the cheapest that does what was asked, with a receipt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagate_server.catalog.models.model import Quality
from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import (
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    ToolNames,
    Value,
)
from mediagate_server.errors import InvalidRequest, MaxCostExceeded, MediagateError, NoMatchingModel
from mediagate_server.structs import replace
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog(optimize_cost=True)
PLAIN = shipped_catalog(optimize_cost=False)
PICTURE = MediaInput("https://example.com/a.png")
LOOKED_AT = Message("user", ("What is this?", PICTURE))
TEXT, IMAGE, VIDEO, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO


def model_request(modality: Modality, quality: str, **parameters: Value) -> ModelRequest:
    """A request that names no model."""
    return ModelRequest(modality, "", parameters, quality=quality)


def unmet(plan: Plan) -> list[str]:
    """What is not as asked."""
    lost = (ParameterHandling.ADJUSTED, ParameterHandling.DROPPED)
    return [line.parameter for line in plan.report if line.handling in lost]


@pytest.mark.parametrize(
    ("request_", "slug"),
    [
        (model_request(TEXT, "economy", prompt="Hi"), "meta/meta-llama-3-8b-instruct"),
        (model_request(IMAGE, "economy", prompt="x"), "black-forest-labs/flux-schnell"),
        (
            model_request(IMAGE, "economy", prompt="x", negative_prompt="y", count=2),
            "stability-ai/sdxl",
        ),
        (model_request(VIDEO, "economy", prompt="x"), "wan-video/wan-2.2-t2v-fast"),
        (model_request(AUDIO, "economy", text="Hello"), "qwen/qwen3-tts"),
        (model_request(AUDIO, "economy", prompt="x", kind="music"), "google/lyria-2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_cheapest_suitable_model_is_chosen(request_: ModelRequest, slug: str) -> None:
    """Of its quality, with what it leaves to choose from."""
    model_plan = CATALOG.plan(request_)
    assert model_plan.slug == slug
    assert model_plan.requested_model == ""
    assert unmet(model_plan) == []
    assert model_plan.choice is not None
    assert model_plan.choice.reason == (
        "the cheapest of quality economy that honours everything asked for"
    )


MODALITIES: dict[Modality, dict[str, Value]] = {
    TEXT: {"prompt": "Hi"},
    IMAGE: {"prompt": "x", "aspect_ratio": "16:9"},
    VIDEO: {"prompt": "x", "first_frame": PICTURE},
    AUDIO: {"text": "Hello there"},
}


@settings(max_examples=40)
@given(
    modality=st.sampled_from(list(MODALITIES)),
    quality=st.sampled_from([quality.value for quality in Quality]),
    duration=st.sampled_from([None, 4.0, 5.0, 10.0]),
)
def test_the_choice_report_is_correct(
    modality: Modality, quality: str, duration: float | None
) -> None:
    """Everybody else does less, costs more, has no price or cannot; each figure is its plan's."""
    parameters: dict[str, Value] = {**MODALITIES[modality]}
    if duration is not None and modality is VIDEO:
        parameters["duration"] = duration
    request = ModelRequest(modality, "", parameters, quality=quality)
    model_plan = CATALOG.plan(request)
    assert model_plan.choice is not None
    chosen = CATALOG.find(modality, model_plan.slug)
    assert chosen.quality.value == quality
    for other in model_plan.choice.alternatives:
        model = CATALOG.find(modality, other.model)
        assert model.quality.value == quality
        if other.reason in ("costs more", "costs the same", "its price is not known") or (
            other.reason.startswith("does not honour")
        ):
            plan = CATALOG.plan(replace(request, model=other.model, quality=""))
            assert plan.estimate == other.estimate
            assert len(unmet(plan)) >= len(unmet(model_plan))
            if len(unmet(plan)) == len(unmet(model_plan)) and plan.estimate.expected is not None:
                assert model_plan.estimate.expected is not None
                assert plan.estimate.expected >= model_plan.estimate.expected


def test_lenient_mode_maximizes_support_and_strict_mode_refuses() -> None:
    """No model of text takes a seed."""
    request = model_request(TEXT, "standard", prompt="Hi", seed=7)
    model_plan = CATALOG.plan(request)
    assert model_plan.choice is not None
    assert unmet(model_plan) == ["seed"]
    assert model_plan.choice.reason.endswith("not as asked: seed")
    with pytest.raises(NoMatchingModel) as refused:
        CATALOG.plan(replace(request, strict=True))
    metadata = refused.value.failure.metadata
    assert metadata["quality"] == "standard"
    assert metadata["openai/gpt-4.1"] == "does not honour seed"


def test_parameters_that_no_model_supports_are_refused() -> None:
    """There is no premium model that moves its lips to a film, nor an economic film from a film."""
    with pytest.raises(NoMatchingModel):
        CATALOG.plan(model_request(VIDEO, "standard", source_video=PICTURE))


def test_the_cost_bound_is_respected() -> None:
    """Who is over it does not fit; where all are, nobody does."""
    request = model_request(IMAGE, "premium", prompt="x")
    cheapest = CATALOG.plan(request).estimate.maximum
    assert cheapest is not None
    assert CATALOG.plan(replace(request, max_cost_nanos=cheapest)).estimate.maximum == cheapest
    with pytest.raises(NoMatchingModel) as refused:
        CATALOG.plan(replace(request, max_cost_nanos=cheapest - 1))
    assert "max_cost_usd_nanos" in str(refused.value.failure.metadata)


def test_the_default_model_is_used_when_none_is_named() -> None:
    """Whatever the operator's word on cost: he chose it. A model that is named stays."""
    plain = ModelRequest(VIDEO, "", {"prompt": "x"})
    for catalog in (PLAIN, CATALOG):
        assert catalog.plan(plain).slug == "minimax/video-01"
        assert catalog.plan(plain).choice is None
        named = replace(plain, model="minimax-video")
        assert catalog.plan(named).slug == "minimax/video-01"
        with pytest.raises(MaxCostExceeded):
            catalog.plan(replace(named, max_cost_nanos=1))


def test_cost_optimization_changes_the_choice() -> None:
    """With a quality or a bound a cheaper model is taken; otherwise the default, or nobody."""
    bounded = ModelRequest(VIDEO, "", {"prompt": "x"}, max_cost_nanos=300_000_000)
    cheaper = CATALOG.plan(bounded)
    assert cheaper.estimate.maximum is not None
    assert cheaper.estimate.maximum <= 300_000_000
    assert CATALOG.find(VIDEO, cheaper.slug).quality is Quality.STANDARD
    assert cheaper.choice is not None
    assert "max_cost_usd_nanos" in cheaper.choice.reason
    with pytest.raises(MaxCostExceeded, match="video-01"):
        PLAIN.plan(bounded)
    with pytest.raises(MaxCostExceeded, match="video-01"):  # where nobody is within the bound
        CATALOG.plan(replace(bounded, max_cost_nanos=1))
    standard = model_request(VIDEO, "standard", prompt="x")
    assert PLAIN.plan(standard).slug == "minimax/video-01"
    assert CATALOG.plan(standard).slug != "minimax/video-01"
    assert PLAIN.plan(replace(standard, quality="economy")).choice is not None


def nobody_named(modality: Modality, **parameters: Value) -> ModelRequest:
    """Neither a model nor a quality."""
    return ModelRequest(modality, "", parameters)


@pytest.mark.parametrize("catalog", ["PLAIN", "CATALOG"])
@pytest.mark.parametrize(
    ("request_", "slug"),
    [
        (nobody_named(AUDIO, text="Hello"), "minimax/speech-02-hd"),
        (nobody_named(AUDIO, text="Hello", kind="speech"), "minimax/speech-02-hd"),
        (nobody_named(AUDIO, prompt="Rain", kind="sound_effect"), "stability-ai/stable-audio-2.5"),
        (nobody_named(AUDIO, prompt="A waltz", lyrics="La la"), "minimax/music-1.5"),
        (
            nobody_named(IMAGE, prompt="x", reference_images=(PICTURE, PICTURE)),
            "bytedance/seedream-4",
        ),
        (nobody_named(TEXT, messages=(LOOKED_AT,)), "openai/gpt-4.1"),
        (
            nobody_named(VIDEO, prompt="x", first_frame=PICTURE, last_frame=PICTURE),
            "minimax/hailuo-02",
        ),
        (
            nobody_named(VIDEO, prompt="x", first_frame=PICTURE, source_audio=PICTURE),
            "wan-video/wan-2.5-i2v",
        ),
    ],
    ids=str,
)
def test_an_unsuitable_default_model_is_replaced(
    catalog: str, request_: ModelRequest, slug: str
) -> None:
    """To the cheapest of its quality that can; the receipt says why, and names the default."""
    model_plan = {"PLAIN": PLAIN, "CATALOG": CATALOG}[catalog].plan(request_)
    assert model_plan.slug == slug
    assert model_plan.choice is not None
    assert model_plan.choice.reason.startswith("the default model cannot: ")


@pytest.mark.parametrize(
    ("request_", "field", "able"),
    [
        (
            nobody_named(VIDEO, prompt="x", source_video=PICTURE),
            "source_video",
            "gen4-aleph (premium)",
        ),
        (
            nobody_named(IMAGE, prompt="x", reference_images=(PICTURE,), mask=PICTURE),
            "mask",
            "sdxl (economy)",
        ),
        (nobody_named(AUDIO, text="Hi", lyrics="La", kind="speech"), "lyrics", ""),
        (nobody_named(VIDEO, first_frame=PICTURE), "prompt", "stable-video-diffusion (economy)"),
        (nobody_named(TEXT, prompt="x", tools=ToolNames(("f",))), "tools", ""),
    ],
    ids=str,
)
def test_no_suitable_model_of_the_quality_is_refused(
    request_: ModelRequest, field: str, able: str
) -> None:
    """Naming the field, and who of another quality could be named."""
    for quality in ("", "standard"):
        with pytest.raises(MediagateError) as refused:
            CATALOG.plan(replace(request_, quality=quality))
        failure = refused.value.failure
        assert field in [violation.field for violation in failure.violations], failure
        assert able in failure.message
    with pytest.raises(InvalidRequest):
        CATALOG.plan(request_)


def test_the_default_is_not_replaced_by_a_lower_safety_class() -> None:
    """In safety class: who wants the others chooses by quality, or names one."""
    guarded = shipped_catalog(defaults={AUDIO: "speech-02-turbo"}, optimize_cost=True)
    like_this = nobody_named(AUDIO, text="Hello", reference_audio=PICTURE)
    with pytest.raises(InvalidRequest) as refused:
        guarded.plan(like_this)
    assert [each.field for each in refused.value.failure.violations] == ["reference_audio"]
    chosen = guarded.plan(replace(like_this, quality="economy"))
    assert guarded.find(AUDIO, chosen.slug).safety.value == "open"


def test_model_specific_inputs_keep_the_default_model() -> None:
    """They are one model's: where that cannot do it, the call is refused."""
    own = replace(nobody_named(AUDIO, text="Hello"), model_parameters={"top_k": 3})
    with pytest.raises(InvalidRequest):
        CATALOG.plan(own)
