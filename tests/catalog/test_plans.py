"""Plans of the shipped models: what is sent, what it may cost, and what is refused before."""

from decimal import Decimal

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.models.model import ModelStatus, OutputKind
from mediagate_server.catalog.models.model_file import ModelFileError
from mediagate_server.catalog.planning.plan import Plan, Substitution
from mediagate_server.catalog.pricing.prices import Estimate, compute_cost
from mediagate_server.catalog.request import MediaInput, Modality, ModelRequest, Size, Value
from mediagate_server.errors import (
    InvalidRequest,
    MaxCostExceeded,
    MediagateError,
    ModelNotFound,
    ModelRetired,
    ParameterUnsupported,
    PriceUnknown,
)
from mediagate_server.structs import replace
from tests.catalog.builders import exact_estimate, shipped_catalog

CATALOG = shipped_catalog(generate_seed=lambda: 7)
FRAME = MediaInput("https://example.com/a.png")
USD = 10**9


def plan_for(
    modality: str,
    model: str,
    parameters: dict[str, Value] | None = None,
    *,
    strict: bool = False,
    most: int | None = None,
    **more: Value,
) -> Plan:
    """A plan by the shipped catalog."""
    all_parameters = {**(parameters or {}), **more}
    request = ModelRequest(
        Modality(modality), model, all_parameters, strict=strict, max_cost_nanos=most
    )
    return CATALOG.plan(request)


def refused(
    error: type[MediagateError],
    modality: str,
    model: str,
    parameters: dict[str, Value] | None = None,
    *,
    strict: bool = False,
    **more: Value,
) -> list[str]:
    """The fields named by the refusal."""
    with pytest.raises(error) as caught:
        plan_for(modality, model, {**(parameters or {}), **more}, strict=strict)
    return [violation.field for violation in caught.value.failure.violations]


def test_a_custom_size_on_flux() -> None:
    """Width and height count only with the custom ratio, which is set along."""
    plan = plan_for("image", "flux-pro", prompt="a fox", size=Size(1280, 704))
    assert plan.input == {
        "prompt": "a fox",
        "width": 1280,
        "height": 704,
        "aspect_ratio": "custom",
        "seed": 7,
    }
    assert plan.estimate == exact_estimate(40_000_000)


def test_images_are_priced_per_image() -> None:
    """Exact before the run, and the format that is asked for is the one to expect."""
    plan = plan_for("image", "flux-dev", prompt="a fox", count=3, output_format="jpeg")
    assert plan.input["num_outputs"] == plan.output_count == 3
    assert plan.estimate == exact_estimate(75_000_000)
    assert plan.input["output_format"] == "jpg"
    assert plan.output.media_type == "image/jpeg"
    assert plan_for("image", "flux-dev", prompt="a fox").output.media_type == "image/webp"


def test_hardware_seconds_are_bounded_by_max_run() -> None:
    """A pinned version, and a maximum of max_run times the rate."""
    plan = plan_for("image", "sdxl", prompt="a fox")
    assert plan.target.startswith("stability-ai/sdxl:7762fd07")
    assert plan.slug == "stability-ai/sdxl"
    assert plan.estimate == Estimate(0, 6 * 975_000, plan.max_run * 975_000)


@pytest.mark.parametrize(
    ("model", "parameters", "nanos"),
    [
        ("minimax-video", {}, USD // 2),
        ("bytedance/seedance-1-pro", {}, 5 * 150_000_000),
        ("bytedance/seedance-1-pro", {"resolution": "480p", "duration": 2.0}, 2 * 30_000_000),
        ("bytedance/seedance-1-pro", {"size": Size(1280, 720)}, 5 * 60_000_000),
        ("google/veo-3-fast", {"generate_audio": True, "duration": 4.0}, 4 * 150_000_000),
        ("kwaivgi/kling-v2.1", {"first_frame": FRAME}, 5 * 50_000_000),
        ("kwaivgi/kling-v2.1", {"first_frame": FRAME, "last_frame": FRAME}, 5 * 90_000_000),
    ],
)
def test_videos_are_priced_by_duration_and_tier(
    model: str, parameters: dict[str, Value], nanos: int
) -> None:
    """Exact before the run: all that decides the price is sent, also what nobody set."""
    plan = plan_for("video", model, parameters, prompt="a fox runs")
    assert plan.estimate == exact_estimate(nanos)


def test_the_stored_price_keeps_the_sent_tier() -> None:
    """Upstream reports only seconds: the tier is still the one that was ordered."""
    plan = plan_for("video", "bytedance/seedance-1-pro", prompt="x", resolution="480p")
    assert (
        compute_cost(plan.price, {"video_output_duration_seconds": Decimal("5.0")}) == 150_000_000
    )
    assert compute_cost(
        plan.price, {"video_output_duration_seconds": 5, "resolution_target": "1080p"}
    ) == (750_000_000)
    assert compute_cost(plan.price, {}) is None


def test_audio_is_off_by_default() -> None:
    """The model's own default is on, and dearer."""
    assert plan_for("video", "google/veo-3-fast", prompt="x").input["generate_audio"] is False


def test_speech_is_priced_per_character() -> None:
    """Exact for plain letters; bounded by the bytes for others."""
    plain = plan_for("audio", "minimax/speech-02-turbo", kind="speech", text="Hello you!")
    assert plain.estimate == exact_estimate(10 * 60_000)
    wide = plan_for("audio", "minimax/speech-02-turbo", kind="speech", text="你好")
    assert wide.estimate == Estimate(120_000, 120_000, 360_000)


def test_tokens_are_bounded_by_the_sent_limit() -> None:
    """The model's own default is sent where the caller sets none."""
    plan = plan_for("text", "llama-70b", prompt="Hi")
    assert plan.input["max_tokens"] == 512
    assert plan.streams
    assert plan.output.kind is OutputKind.TEXT_CHUNKS
    less = plan_for("text", "llama-70b", prompt="Hi", max_output_tokens=12)
    assert plan.estimate.maximum is not None
    assert less.estimate.maximum == plan.estimate.maximum - 500 * 2750


def test_an_output_in_an_object_is_named() -> None:
    """Bark answers with an object."""
    plan = plan_for(
        "audio", "suno", kind="speech", text="Hello", voice="en_speaker_6", language="fr"
    )
    assert plan.output.kind is OutputKind.MEDIA_FIELD
    assert plan.output.field == "audio_out"
    assert plan.input == {"prompt": "Hello", "history_prompt": "en_speaker_6"}
    assert plan.seed is None


def test_a_seed_of_zero_is_sent() -> None:
    """Set is set."""
    plan = plan_for("image", "sdxl", prompt="x", seed=0)
    assert (plan.seed, plan.input["seed"]) == (0, 0)


def test_generated_seeds_are_never_zero() -> None:
    """By the system's randomness where none is injected, within what every model takes."""
    request = ModelRequest(Modality.IMAGE, "sdxl", {"prompt": "x"})
    seeds = {shipped_catalog().plan(request).seed for _ in range(3)}
    assert len(seeds) == 3
    assert all(seed is not None and 1 <= seed < 2**31 for seed in seeds)


def test_names_and_defaults() -> None:
    """A slug, an alias, or nothing; what was typed is kept."""
    assert plan_for("text", "llama-70b", prompt="x").requested_model == "llama-70b"
    assert plan_for("text", "", prompt="x").slug == "meta/meta-llama-3-70b-instruct"
    own = shipped_catalog(defaults={Modality.TEXT: "claude"})
    assert own.find(Modality.TEXT, "").slug == "anthropic/claude-4.5-sonnet"
    assert own.find(Modality.IMAGE, "").slug == "black-forest-labs/flux-1.1-pro"
    assert own.find(Modality.VIDEO, "").slug == "minimax/video-01"
    assert own.find(Modality.AUDIO, "").slug == "meta/musicgen"
    for modality, name in ((Modality.TEXT, "no/such"), (Modality.IMAGE, "llama-70b")):
        with pytest.raises(ModelNotFound):
            CATALOG.find(modality, name)
    named = CATALOG.find_by_name("sdxl")
    assert named is not None
    assert named.slug == "stability-ai/sdxl"
    assert CATALOG.find_by_name("nobody") is None


def test_a_retired_model_names_its_successor() -> None:
    """It is run instead, and told of; where none may stand in, nothing is planned."""
    pro = CATALOG.find_by_name("flux-pro")
    dev = CATALOG.find_by_name("flux-dev")
    assert pro is not None
    assert dev is not None
    gone = replace(
        pro, status=ModelStatus.RETIRED, successor=dev.slug, fallbacks=(), aliases=("old",)
    )
    catalog = Catalog([gone, replace(dev, fallbacks=())], defaults={})
    retired_request = ModelRequest(Modality.IMAGE, "old", {"prompt": "x"})
    plan = catalog.plan(retired_request)
    assert plan.slug == dev.slug
    assert plan.substitution == Substitution("old", f"{pro.slug} is gone from Replicate")
    for request in (
        replace(retired_request, strict=True),
        replace(retired_request, allow_substitutes=False),
    ):
        with pytest.raises(ModelRetired) as refusal:
            catalog.plan(request)
        assert refusal.value.failure.metadata == {"model": "old", "successor": dev.slug}
    for request in (retired_request, replace(retired_request, strict=True)):
        nobody = Catalog([replace(gone, successor="")], defaults={})
        with pytest.raises(ModelRetired) as refusal:
            nobody.plan(request)
        assert refusal.value.failure.metadata == {"model": "old", "successor": ""}


def test_a_successor_is_never_of_a_dearer_class() -> None:
    """A call by the old name would buy it unasked."""
    [sdxl, pro] = [CATALOG.find_by_name(name) for name in ("sdxl", "flux-pro")]
    assert sdxl is not None
    assert pro is not None
    gone = replace(sdxl, status=ModelStatus.RETIRED, successor=pro.slug, fallbacks=())
    with pytest.raises(ModelFileError, match="dearer quality"):
        Catalog([gone, replace(pro, fallbacks=())], defaults={})


def test_missing_inputs_are_named_by_the_contracts_fields() -> None:
    """The picture that an image-to-video model starts from; the text that a voice says."""
    assert refused(InvalidRequest, "video", "kwaivgi/kling-v2.1", prompt="x") == ["first_frame"]
    assert refused(InvalidRequest, "audio", "minimax/speech-02-turbo", prompt="x") == ["text"]
    assert refused(InvalidRequest, "video", "minimax-video") == ["prompt"]


def test_a_prompt_is_never_dropped() -> None:
    """Without any of them it would be another song or film, paid for all the same."""
    song, text = MediaInput("https://example.com/a.mp3"), dict[str, Value](prompt="a waltz")
    for words in (text, dict[str, Value](text="hello")):
        for parameters in (words, {**words, "reference_audio": song}):
            fields = refused(ParameterUnsupported, "audio", "minimax/music-01", parameters)
            assert fields == list(words)
    both = refused(ParameterUnsupported, "audio", "minimax/music-01", {**text, "lyrics": "la"})
    assert both == ["prompt"]
    sung = plan_for("audio", "minimax/music-01", {"prompt": "", "lyrics": "la"})
    assert sung.input["lyrics"] == "la"
    # It moves a picture, and takes no words at all.
    moving: dict[str, Value] = {"prompt": "x", "first_frame": FRAME}
    assert refused(ParameterUnsupported, "video", "stable-video-diffusion", moving) == ["prompt"]


def test_another_kind_of_audio_is_refused() -> None:
    """Speech is not asked of a model for music: it would be paid and worthless."""
    assert refused(InvalidRequest, "audio", "musicgen", kind="speech", text="x") == ["kind"]
    assert plan_for("audio", "musicgen", kind="music", prompt="x").input["duration"] == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("aspect_ratio", "wide"),
        ("aspect_ratio", "0:1"),
        ("size", Size(0, 10)),
        ("colour", "red"),
    ],
)
def test_impossible_values_are_refused(name: str, value: Value) -> None:
    """Even where the door forgot to."""
    assert refused(InvalidRequest, "image", "sdxl", {name: value}, prompt="x") == [name]


def test_strict_mode_names_every_field_at_once() -> None:
    """Adjusted or dropped; what is emulated is what was asked for, so it passes."""
    fields = refused(
        ParameterUnsupported,
        "text",
        "claude",
        strict=True,
        prompt="x",
        temperature=0.3,
        max_output_tokens=16,
        stop_sequences=("a",),
    )
    assert fields == ["temperature", "max_output_tokens", "stop_sequences"]
    assert plan_for("text", "llama-70b", strict=True, prompt="x", system_prompt="y").slug


def test_claudes_minimum_output_tokens() -> None:
    """The report tells both values."""
    plan = plan_for("text", "claude", prompt="x", max_output_tokens=16)
    line = plan.report[1]
    assert (line.handling.value, line.requested, line.sent) == ("adjusted", "16", "1024")
    assert plan.input["max_tokens"] == 1024


def test_the_maximum_cost_is_checked_before_spending() -> None:
    """By the most that the call may cost; exactly that much is enough."""
    assert plan_for("image", "flux-pro", most=40_000_000, prompt="x").slug
    with pytest.raises(MaxCostExceeded) as dear:
        plan_for("image", "flux-pro", most=39_999_999, prompt="x")
    assert dear.value.failure.metadata["maximum_usd_nanos"] == "40000000"
    with pytest.raises(MaxCostExceeded):
        plan_for("image", "flux-pro", most=0, prompt="x")
    song = ModelRequest(Modality.AUDIO, "musicgen", {"prompt": "x"})
    sure = shipped_catalog(assumed=False)
    assert sure.plan(song).estimate == Estimate(None, None, None)
    with pytest.raises(PriceUnknown):
        sure.plan(replace(song, max_cost_nanos=USD))
    # The longest run on the dearest machine that it may be on.
    most = plan_for("audio", "musicgen", prompt="x").estimate.maximum
    assert most == 600 * 1_400_000
    assert plan_for("audio", "musicgen", most=most, prompt="x").price.assumed
    with pytest.raises(MaxCostExceeded):
        plan_for("audio", "musicgen", most=most - 1, prompt="x")
