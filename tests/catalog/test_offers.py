"""What a model is shown to offer is what its plans do."""

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.fields import FIELDS
from mediagate_server.catalog.model import Model
from mediagate_server.catalog.offers import Offer, capabilities, offers
from mediagate_server.catalog.plan import Handling
from mediagate_server.catalog.request import MediaInput, Modality, ModelRequest, Value

CATALOG = Catalog.load()
each_model = pytest.mark.parametrize("model", CATALOG.models(), ids=lambda model: model.slug)


def offered(name: str) -> dict[str, Offer]:
    """A model's offers by parameter."""
    model = CATALOG.named(name)
    assert model is not None
    return {offer.parameter: offer for offer in offers(model)}


def value_of(offer: Offer, word: str) -> Value:
    """An allowed value as a caller would set it."""
    if offer.parameter in ("duration", "megapixels"):
        return float(word)
    if offer.parameter in ("fps", "steps"):
        return int(word)
    return word == "true" if word in ("true", "false") else word


@each_model
def test_every_value_on_offer_is_honoured(model: Model) -> None:
    """Each one, set by itself beside what the model cannot do without."""
    tried = 0
    for offer in offers(model):
        for word in offer.allowed_values:
            parameters: dict[str, Value] = {"prompt": "x"}
            if model.modality is Modality.AUDIO:
                parameters["text"] = "x"
            if model.modality is Modality.SAFETY:
                parameters = {"content": "x"}
            if "first_frame" in model.map:
                parameters["first_frame"] = MediaInput("https://example.com/a.png")
            parameters[offer.parameter] = value_of(offer, word)
            plan = CATALOG.plan(ModelRequest(model.modality, model.slug, parameters))
            [line] = [line for line in plan.report if line.parameter == offer.parameter]
            assert line.handling is Handling.HONOURED, (offer.parameter, word, line)
            tried += 1
    assert tried or not any(offer.allowed_values for offer in offers(model))


@each_model
def test_offers_are_parameters_of_the_contract(model: Model) -> None:
    """Each once, with an input that the model has."""
    names = [offer.parameter for offer in offers(model)]
    assert len(set(names)) == len(names)
    assert set(names) <= set(FIELDS[model.modality])
    for offer in offers(model):
        assert offer.input_name in model.inputs or (not offer.input_name and offer.allowed_values)


def test_offers_are_in_the_contracts_words() -> None:
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
        ("claude", {"vision"}),
        ("llama-70b", set()),
        ("openai/gpt-5-mini", {"reasoning", "vision"}),
        ("google/veo-3-fast", {"image-to-video", "negative-prompt", "sound"}),
        ("minimax-video", {"image-to-video", "reference-images"}),
        ("musicgen", {"continuation", "music", "reference-audio"}),
    ],
)
def test_capabilities(name: str, words: set[str]) -> None:
    """Only what the data says."""
    model = CATALOG.named(name)
    assert model is not None
    assert set(capabilities(model)) == words
