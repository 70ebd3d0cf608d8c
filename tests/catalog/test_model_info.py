"""What a model is shown to offer is what its plans do."""

import pytest

from mediagate_server.catalog.models.model import Model, ModelStatus
from mediagate_server.catalog.models.model_info import (
    Capability,
    ParameterInfo,
    list_capabilities,
    list_parameters,
)
from mediagate_server.catalog.parameters.contract_fields import FIELDS
from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.request import MediaInput, ModelRequest, Size, Value
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog()
LIVE = [model for model in CATALOG.models() if model.status is ModelStatus.LIVE]
each_model = pytest.mark.parametrize("model", LIVE, ids=lambda model: model.slug)


def offered(name: str) -> dict[str, ParameterInfo]:
    """A model's offers by parameter."""
    model = CATALOG.find_by_name(name)
    assert model is not None
    return {offer.parameter: offer for offer in list_parameters(model)}


def value_of(offer: ParameterInfo, word: str) -> Value:
    """An allowed value as a caller would set it."""
    if offer.parameter in ("duration", "megapixels"):
        return float(word)
    if offer.parameter == "size":
        return Size(*(int(side) for side in word.split("x")))
    if offer.parameter in ("fps", "steps"):
        return int(word)
    return word == "true" if word in ("true", "false") else word


def needed(model: Model) -> dict[str, Value]:
    """Parameters that the model cannot do without, and a first frame where it takes one."""
    parameters: dict[str, Value] = {"content": "x"} if model.guard else {}
    words = "text" if "text" in model.map else "prompt"
    for field in (words, "lyrics"):
        if field in model.map or (model.chat and field == "prompt"):
            parameters[field] = "x"
    for field in ("first_frame", "source_video"):
        if field in model.map:
            parameters[field] = MediaInput("https://example.com/a.png")
    return parameters


@each_model
def test_every_allowed_value_is_honoured(model: Model) -> None:
    """Each one, set by itself beside what the model cannot do without."""
    tried = 0
    for offer in list_parameters(model):
        for word in offer.allowed_values:
            parameters = needed(model)
            parameters[offer.parameter] = value_of(offer, word)
            # Some values need others that are not the default.
            rule = model.map.get(offer.parameter)
            for name, value in (rule.forces.get(word, {}) if rule else {}).items():
                [field] = [key for key, other in model.map.items() if name in other.targets]
                parameters[field] = float(str(value))
            plan = CATALOG.plan(ModelRequest(model.modality, model.slug, parameters))
            [line] = [line for line in plan.report if line.parameter == offer.parameter]
            assert line.handling is ParameterHandling.HONOURED, (offer.parameter, word, line)
            tried += 1
    assert tried or not any(offer.allowed_values for offer in list_parameters(model))


@each_model
def test_listed_parameters_are_parameters_of_the_contract(model: Model) -> None:
    """Each once, with an input that the model has."""
    names = [offer.parameter for offer in list_parameters(model)]
    assert len(set(names)) == len(names)
    assert set(names) <= set(FIELDS[model.modality])
    for offer in list_parameters(model):
        assert offer.input_name in model.inputs or (not offer.input_name and offer.allowed_values)


def test_allowed_values_use_the_contracts_terms() -> None:
    """jpeg, not jpg; a ratio, not `custom`; what is always adjusted or emulated is not there."""
    pro = offered("flux-pro")
    assert set(pro["output_format"].allowed_values) == {"jpeg", "png", "webp"}
    assert pro["output_format"].default_value == "webp"
    assert "custom" not in pro["aspect_ratio"].allowed_values
    assert (pro["size"].minimum, pro["size"].maximum) == (256, 1440)
    assert "size" not in offered("flux-dev")
    assert "aspect_ratio" not in offered("sdxl")
    assert "messages" not in offered("claude")
    assert offered("minimax-video")["duration"].allowed_values == ("6",)
    assert offered("kwaivgi/kling-v2.1")["resolution"].default_value == "720p"
    assert offered("claude")["max_output_tokens"].minimum == 1024


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("claude", {"json", "streaming", "vision"}),
        ("llama-70b", {"json", "streaming"}),
        ("openai/gpt-5-mini", {"json", "messages", "reasoning", "streaming", "vision"}),
        (
            "google/veo-3-fast",
            {"image-to-video", "native-audio", "negative-prompt", "text-to-video"},
        ),
        ("google/veo-3.1-lite", {"image-to-video", "last-frame", "native-audio", "text-to-video"}),
        ("minimax-video", {"image-to-video", "reference-images", "text-to-video"}),
        ("stable-video", {"image-to-video"}),
        ("musicgen", {"continuation", "music", "reference-audio"}),
        ("llama-guard", set()),
    ],
)
def test_capabilities(name: str, words: set[str]) -> None:
    """Only what the data says."""
    model = CATALOG.find_by_name(name)
    assert model is not None
    assert set(list_capabilities(model)) == words


def test_every_capability_has_a_model() -> None:
    """The list is closed, and none of its words is empty."""
    assert {word for model in LIVE for word in list_capabilities(model)} == set(Capability)
