"""The names that were promised, what each of them runs, and which are stand-ins."""

import pytest

from mediagate_server.catalog.models.model import ModelStatus
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import MediaInput, Modality, ModelRequest, Value
from mediagate_server.errors import ModelRetired
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog()
TEXT, IMAGE, VIDEO, AUDIO, SAFETY, _ = Modality

ITSELF = [
    (TEXT, "llama-70b", "meta/meta-llama-3-70b-instruct"),
    (TEXT, "claude", "anthropic/claude-4.5-sonnet"),
    (TEXT, "Claude", "anthropic/claude-4.5-sonnet"),
    (SAFETY, "llama-guard", "meta/llama-guard-3-8b"),
    (SAFETY, "meta/llama-guard-3-8b", "meta/llama-guard-3-8b"),
    (IMAGE, "flux-pro", "black-forest-labs/flux-1.1-pro"),
    (IMAGE, "flux-1.1-pro", "black-forest-labs/flux-1.1-pro"),
    (IMAGE, "flux-dev", "black-forest-labs/flux-dev"),
    (IMAGE, "flux-schnell", "black-forest-labs/flux-schnell"),
    (IMAGE, "sdxl", "stability-ai/sdxl"),
    (IMAGE, "stability-ai/sdxl", "stability-ai/sdxl"),
    (IMAGE, "playground-v2.5", "playgroundai/playground-v2.5-1024px-aesthetic"),
    (IMAGE, "playground v2.5", "playgroundai/playground-v2.5-1024px-aesthetic"),
    (VIDEO, "minimax-video", "minimax/video-01"),
    (VIDEO, "minimax/video-01", "minimax/video-01"),
    (VIDEO, "stable-video", "christophy/stable-video-diffusion"),
    (VIDEO, "stability-ai/stable-video-diffusion", "christophy/stable-video-diffusion"),
    (AUDIO, "suno", "suno-ai/bark"),
    (AUDIO, "suno-ai/bark", "suno-ai/bark"),
    (AUDIO, "musicgen", "meta/musicgen"),
    (AUDIO, "meta/musicgen", "meta/musicgen"),
    (AUDIO, "audiocraft", "lucataco/magnet"),
    (AUDIO, "facebook/audiocraft", "lucataco/magnet"),
]
STAND_INS = [
    (TEXT, "llama-405b", "meta/llama-4-maverick-instruct"),
    (TEXT, "meta/llama-3.1-405b-instruct", "meta/llama-4-maverick-instruct"),
    (TEXT, "meta/meta-llama-3.1-405b-instruct", "meta/llama-4-maverick-instruct"),
    (TEXT, "meta/llama-3.1-70b-instruct", "meta/meta-llama-3-70b-instruct"),
    (TEXT, "mistral-large", "openai/gpt-4.1"),
    (TEXT, "mistralai/mistral-large-2407", "openai/gpt-4.1"),
    (TEXT, "anthropic/claude-4-sonnet", "anthropic/claude-4.5-sonnet"),
    (IMAGE, "imagen-4", "google/nano-banana-2"),
    (VIDEO, "luma-dream", "luma/ray-2-720p"),
    (VIDEO, "luma/dream-machine", "luma/ray-2-720p"),
    (VIDEO, "runway-gen3", "runwayml/gen4-turbo"),
    (VIDEO, "runway/gen-3-alpha-turbo", "runwayml/gen4-turbo"),
]


def plan_for(modality: Modality, name: str, *, strict: bool = False, allow: bool = True) -> Plan:
    """A plan for a request that says what all models of the modality need."""
    parameters: dict[str, Value] = {"prompt": "A boat at dawn"}
    if modality is SAFETY:
        parameters = {"content": "Is this safe?"}
    if modality is VIDEO:
        parameters = {"first_frame": MediaInput("https://example.com/a.png")}
        if "stable" not in name:
            parameters["prompt"] = "It sails"
    return CATALOG.plan(
        ModelRequest(modality, name, parameters, strict=strict, allow_substitutes=allow)
    )


@pytest.mark.parametrize(("modality", "name", "slug"), ITSELF)
def test_an_alias_of_the_model_itself(modality: Modality, name: str, slug: str) -> None:
    """Runs it, says nothing of a stand-in, and strict mode has nothing against it."""
    plan = plan_for(modality, name, strict=True, allow=False)
    assert (plan.slug, plan.requested_model, plan.substitution) == (slug, name, None)


@pytest.mark.parametrize(("modality", "name", "slug"), STAND_INS)
def test_an_alias_of_an_unavailable_model(modality: Modality, name: str, slug: str) -> None:
    """Runs the closest there is and says so, or is refused with its name."""
    plan = plan_for(modality, name)
    assert plan.slug == slug
    assert plan.substitution is not None
    assert plan.substitution.requested_model == name
    assert plan.substitution.reason
    for strict, allow in ((True, True), (False, False), (True, False)):
        with pytest.raises(ModelRetired) as refused:
            plan_for(modality, name, strict=strict, allow=allow)
        assert refused.value.failure.metadata == {"model": name, "successor": slug}


def test_substitutions_are_listed_in_the_catalog() -> None:
    """The catalog lists every name that is not the model's own, with the reason."""
    for modality, name, slug in STAND_INS:
        model = CATALOG.find(modality, name)
        if model.status is ModelStatus.RETIRED:
            assert model.successor == slug
        else:
            assert model.stands_in_for[name]


def test_names_are_case_insensitive() -> None:
    """People write them as they like; two models never differ by case alone."""
    assert CATALOG.find(TEXT, "LLAMA-70B") is CATALOG.find(TEXT, "llama-70b")
    names = [name.casefold() for model in CATALOG.models() for name in model.names]
    assert len(names) == len(set(names))


def test_the_catalog_has_more_than_sixty_models() -> None:
    """More than sixty models that can be called, of every modality."""
    live = [model for model in CATALOG.models() if model.status is ModelStatus.LIVE]
    assert len(live) >= 100
    least = {TEXT: 20, IMAGE: 20, VIDEO: 30, AUDIO: 15, SAFETY: 2}
    for modality, count in least.items():
        assert len([model for model in live if model.modality is modality]) >= count
