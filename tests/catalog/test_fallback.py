"""Who takes over where a model fails, in which order, and who is left out and why."""

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.models.model import Model, SafetyClass
from mediagate_server.catalog.models.model_file import ModelFileError
from mediagate_server.catalog.planning.fallback import FallbackChain, can_finish_in_time
from mediagate_server.catalog.request import (
    Fallback,
    FallbackMode,
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    Value,
)
from mediagate_server.errors import InvalidRequest, MaxCostExceeded
from mediagate_server.structs import replace
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog()
PICTURE = MediaInput("https://example.com/a.png")
TEXT, IMAGE, VIDEO, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO


def chain(request: ModelRequest) -> list[str]:
    """The slugs that would be tried."""
    return [plan.slug for plan in CATALOG.plan_with_fallbacks(request).plans]


def skipped(fallback_chain: FallbackChain) -> dict[str, str]:
    """Who was left out, and why."""
    return {each.model: each.reason for each in fallback_chain.skipped}


def model_request(modality: Modality, model: str, **parameters: Value) -> ModelRequest:
    """A request of these parameters."""
    return ModelRequest(modality, model, parameters)


def listed(*models: str) -> Fallback:
    """Just these, in order."""
    return Fallback(FallbackMode.LIST, models)


@pytest.mark.parametrize(
    ("request_", "slugs"),
    [
        (
            model_request(TEXT, "llama-405b", prompt="x"),
            [
                "meta/llama-4-maverick-instruct",
                "meta/meta-llama-3-70b-instruct",
                "openai/gpt-4.1",
            ],
        ),
        (
            model_request(IMAGE, "flux-pro", prompt="x"),
            [
                "black-forest-labs/flux-1.1-pro",
                "black-forest-labs/flux-dev",
                "stability-ai/sdxl",
                "playgroundai/playground-v2.5-1024px-aesthetic",
            ],
        ),
        (
            model_request(VIDEO, "minimax-video", prompt="x", first_frame=PICTURE),
            [
                "minimax/video-01",
                "luma/ray-2-720p",
                "runwayml/gen4-turbo",
                "christophy/stable-video-diffusion",
            ],
        ),
        (
            model_request(AUDIO, "suno", prompt="x"),
            ["suno-ai/bark", "meta/musicgen", "lucataco/magnet"],
        ),
        (
            model_request(AUDIO, "suno", prompt="x", kind="music"),
            ["suno-ai/bark", "meta/musicgen", "lucataco/magnet"],
        ),
    ],
    ids=lambda value: value.model if isinstance(value, ModelRequest) else "",
)
def test_default_fallback_chains(request_: ModelRequest, slugs: list[str]) -> None:
    """Each of them is whole, each link is another model, and nobody is left out."""
    fallback_chain = CATALOG.plan_with_fallbacks(request_)
    assert [plan.slug for plan in fallback_chain.plans] == slugs
    assert fallback_chain.skipped == ()


def test_models_that_cannot_take_the_main_input_are_excluded() -> None:
    """From words alone no model can go on that needs a picture; nor without the picture given."""
    fallback_chain = CATALOG.plan_with_fallbacks(model_request(VIDEO, "minimax-video", prompt="x"))
    assert [plan.slug for plan in fallback_chain.plans] == ["minimax/video-01", "luma/ray-2-720p"]
    assert skipped(fallback_chain) == {
        "runwayml/gen4-turbo": "first_frame: needed by this model",
        "christophy/stable-video-diffusion": "first_frame: needed by this model",
    }
    painted = model_request(IMAGE, "sdxl", prompt="x", reference_images=(PICTURE,), mask=PICTURE)
    painted = replace(painted, fallback=listed("flux-dev", "playground"))
    fallback_chain = CATALOG.plan_with_fallbacks(painted)
    assert [*skipped(fallback_chain)] == ["flux-dev"]
    assert "mask" in skipped(fallback_chain)["flux-dev"]


def test_an_image_to_video_fallback_may_drop_the_prompt() -> None:
    """The film begins with the picture all the same, and its last frame is nobody's to drop."""
    frames = model_request(VIDEO, "minimax-video", prompt="x", first_frame=PICTURE)
    plans = CATALOG.plan_with_fallbacks(frames).plans
    assert plans[-1].slug == "christophy/stable-video-diffusion"
    handlings = {line.parameter: line.handling.value for line in plans[-1].report}
    assert handlings == {"prompt": "dropped", "first_frame": "honoured"}
    both = model_request(VIDEO, "luma-dream", prompt="x", first_frame=PICTURE, last_frame=PICTURE)
    both = replace(both, fallback=listed("kling-v2.5", "minimax-video", "stable-video"))
    fallback_chain = CATALOG.plan_with_fallbacks(both)
    assert [plan.slug for plan in fallback_chain.plans][1:] == ["kwaivgi/kling-v2.5-turbo-pro"]
    assert all("last_frame" in reason for reason in skipped(fallback_chain).values())


def test_fallback_keeps_the_kind_of_audio() -> None:
    """Speech is not followed by music."""
    spoken = model_request(AUDIO, "suno", text="Hello", kind="speech")
    assert skipped(CATALOG.plan_with_fallbacks(spoken)) == {
        "meta/musicgen": "kind: meta/musicgen makes music",
        "lucataco/magnet": "kind: lucataco/magnet makes music and sound effect",
    }


def test_fallback_never_lowers_the_safety_class() -> None:
    """A list of the caller's is held to it too."""
    request = replace(
        model_request(AUDIO, "stable-audio", prompt="x"),
        fallback=listed("musicgen", "elevenlabs-music"),
    )
    fallback_chain = CATALOG.plan_with_fallbacks(request)
    assert [plan.slug for plan in fallback_chain.plans] == [
        "stability-ai/stable-audio-2.5",
        "elevenlabs/music",
    ]
    reason = "weaker in safety class than stability-ai/stable-audio-2.5"
    assert skipped(fallback_chain) == {"musicgen": reason}


def test_models_too_slow_for_the_timeout_are_excluded() -> None:
    """By how long a run takes as a rule; the first model is always tried."""
    short = replace(
        model_request(VIDEO, "minimax-video", prompt="x", first_frame=PICTURE), timeout=90.0
    )
    fallback_chain = CATALOG.plan_with_fallbacks(short)
    assert [plan.slug for plan in fallback_chain.plans] == [
        "minimax/video-01",
        "runwayml/gen4-turbo",
    ]
    assert skipped(fallback_chain) == {
        "luma/ray-2-720p": "takes 120 s as a rule, more than the timeout",
        "christophy/stable-video-diffusion": "takes 120 s as a rule, more than the timeout",
    }
    turbo = fallback_chain.plans[1]
    assert can_finish_in_time(turbo, 60.0)
    assert not can_finish_in_time(turbo, 59.9)


def test_the_cost_of_the_whole_chain_is_bounded() -> None:
    """Who could bring the sum over the bound is left out; the first alone is refused."""
    picture = model_request(IMAGE, "flux-pro", prompt="x")
    unbounded = CATALOG.plan_with_fallbacks(picture)
    most = [plan.estimate.maximum or 0 for plan in unbounded.plans]
    assert unbounded.estimate.maximum == sum(most)
    assert (unbounded.estimate.low, unbounded.estimate.expected) == (40_000_000, 40_000_000)
    for count in (1, 2, 3, 4):
        bounded = replace(picture, max_cost_nanos=sum(most[:count]))
        fallback_chain = CATALOG.plan_with_fallbacks(bounded)
        assert len(fallback_chain.plans) == count
        assert fallback_chain.estimate.maximum == sum(most[:count])
        assert {each.reason for each in fallback_chain.skipped} <= {
            "it could bring the cost of the call over max_cost_usd_nanos"
        }
    with pytest.raises(MaxCostExceeded):
        CATALOG.plan_with_fallbacks(replace(picture, max_cost_nanos=most[0] - 1))


def test_unpriced_models_are_excluded_under_a_cost_bound() -> None:
    """Unknown is not zero, in a sum neither."""
    film = model_request(VIDEO, "kling-v2.5", prompt="x", first_frame=PICTURE)
    film = replace(film, fallback=listed("wan-2.5-i2v", "hailuo"))
    sure = shipped_catalog(assumed=False)
    assert sure.plan_with_fallbacks(film).estimate.maximum is None
    bounded = sure.plan_with_fallbacks(replace(film, max_cost_nanos=10**10))
    assert [plan.slug for plan in bounded.plans][1:] == ["minimax/hailuo-2.3"]
    reason = "what it may cost is not known, and the cost of the call is bounded"
    assert skipped(bounded) == {"wan-2.5-i2v": reason}
    assert bounded.estimate.maximum is not None
    assumed = CATALOG.plan_with_fallbacks(replace(film, max_cost_nanos=10**10))
    assert [plan.slug for plan in assumed.plans][1:] == [
        "wan-video/wan-2.5-i2v",
        "minimax/hailuo-2.3",
    ]


def test_strict_mode_and_substitution_apply_to_the_whole_chain() -> None:
    """Each link must do all as asked; none may be another than the one named."""
    sized = model_request(IMAGE, "flux-pro", prompt="x", aspect_ratio="16:9")
    sized = replace(sized, strict=True, fallback=listed("recraft-v3", "gpt-image-2"))
    fallback_chain = CATALOG.plan_with_fallbacks(sized)
    assert [plan.slug for plan in fallback_chain.plans][1:] == ["recraft-ai/recraft-v3"]
    assert "aspect_ratio" in skipped(fallback_chain)["gpt-image-2"]
    talk = replace(model_request(TEXT, "llama-70b", prompt="x"), fallback=listed("mistral-large"))
    assert chain(talk) == ["meta/meta-llama-3-70b-instruct", "openai/gpt-4.1"]
    fallback_chain = CATALOG.plan_with_fallbacks(replace(talk, allow_substitutes=False))
    assert skipped(fallback_chain) == {"mistral-large": "mistral-large is not on Replicate"}


def test_disabled_and_explicit_fallback_lists() -> None:
    """As the caller says; a name that is none is refused, the same model twice is not tried."""
    plain = model_request(IMAGE, "flux-pro", prompt="x")
    assert chain(replace(plain, fallback=Fallback(FallbackMode.NONE))) == [
        "black-forest-labs/flux-1.1-pro"
    ]
    twice = CATALOG.plan_with_fallbacks(
        replace(plain, fallback=listed("sdxl", "flux-1.1-pro", "sdxl"))
    )
    assert len(twice.plans) == 2
    assert [each.model for each in twice.skipped] == ["flux-1.1-pro", "sdxl"]
    for name in ("nobody", "llama-70b"):
        with pytest.raises(InvalidRequest) as refused:
            CATALOG.plan_with_fallbacks(replace(plain, fallback=listed("sdxl", name)))
        assert [violation.field for violation in refused.value.failure.violations] == [
            "options.fallback.models[1]"
        ]


def test_images_in_a_conversation_exclude_models_without_vision() -> None:
    """A model without eyes does not take over."""
    image_messages = (Message("user", ("What is this?", PICTURE)),)
    seen = replace(
        model_request(TEXT, "claude", messages=image_messages),
        fallback=listed("deepseek", "gpt-4o"),
    )
    fallback_chain = CATALOG.plan_with_fallbacks(seen)
    assert [plan.slug for plan in fallback_chain.plans][1:] == ["openai/gpt-4o"]


def test_a_content_refusal_ends_the_chain_unless_configured() -> None:
    """The word is passed on to who runs them."""
    plain = model_request(IMAGE, "flux-pro", prompt="x")
    assert not CATALOG.plan_with_fallbacks(plain).after_content_refusal
    on = Fallback(FallbackMode.LIST, ("sdxl",), after_content_refusal=True)
    assert CATALOG.plan_with_fallbacks(replace(plain, fallback=on)).after_content_refusal


def model(name: str) -> Model:
    """A model that is there."""
    fallback_chain = CATALOG.find_by_name(name)
    assert fallback_chain is not None
    return fallback_chain


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"fallbacks": ("nobody/nothing",)}, "is no slug"),
        ({"fallbacks": ("flux-dev",)}, "is no slug"),
        ({"fallbacks": ("meta/musicgen",)}, "is a model of audio"),
        ({"fallbacks": ("google/imagen-4",)}, "is retired"),
        ({"fallbacks": ("test/open",)}, "weaker in safety class"),
    ],
)
def test_chains_are_validated_on_load(changes: dict[str, tuple[str, ...]], complaint: str) -> None:
    """Who is named must be there, live, of the same kind and no weaker."""
    others = [each for each in CATALOG.models() if each.slug != model("flux-pro").slug]
    others.append(
        replace(
            model("sdxl"),
            slug="test/open",
            version="0" * 64,
            aliases=(),
            fallbacks=(),
            safety=SafetyClass.OPEN,
        )
    )
    with pytest.raises(ModelFileError, match=complaint):
        Catalog([*others, replace(model("flux-pro"), **changes)])  # type: ignore[arg-type]


def test_a_chain_has_no_cycles() -> None:
    """To itself, or to a link that it has had."""
    for fallbacks in (
        ("black-forest-labs/flux-1.1-pro",),
        ("stability-ai/sdxl", "stability-ai/sdxl"),
    ):
        with pytest.raises(ValueError, match="comes back"):
            replace(model("flux-pro"), fallbacks=fallbacks)
