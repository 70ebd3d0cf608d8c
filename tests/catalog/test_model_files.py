"""Model files: what is read is what is meant, and what is wrong is named."""

from decimal import Decimal

import pytest

from mediagate_server.catalog.catalog import DEFAULT_MODELS, Catalog
from mediagate_server.catalog.models.model import Model, ModelKind, Quality
from mediagate_server.catalog.models.model_file import ModelFileError
from mediagate_server.catalog.pricing.prices import PriceRate
from mediagate_server.catalog.request import Modality
from tests.catalog.builders import read_models, shipped_catalog

SMALL = """
[[model]]
slug = "maker/small"
aliases = ["small"]
modality = "image"
vendor = "Maker"
kind = "official"
quality = "economy"
safety = "screened"
inputs_from = "verified"
usual_run = 10
max_run = 60
output = { kind = "media", media_type = "image/png" }
[model.inputs]
prompt = { type = "string", required = true }
steps = { type = "integer", default = 4, min = 1, max = 8 }
[model.map]
prompt = "prompt"
steps = "steps"
[model.price]
as_of = "2026"
source = "model page"
tiers = [{ rates = [{ metrics = ["image_output_count"], usd = "0.003", per = 1 }] }]
"""


def test_a_model_is_read_as_written() -> None:
    """Facts arrive as facts, a price digit for digit."""
    [model] = read_models("some.toml", SMALL)
    assert isinstance(model, Model)
    assert (model.slug, model.kind, model.quality) == (
        "maker/small",
        ModelKind.OFFICIAL,
        Quality.ECONOMY,
    )
    assert model.price.tiers[0].rates == (PriceRate(("image_output_count",), Decimal("0.003"), 1),)
    assert model.inputs["steps"].max == 8
    assert model.map["steps"].targets == ("steps",)


def test_a_model_inherits_all_but_name_and_price() -> None:
    """Tables are merged key by key; a price is never inherited, not even by mistake."""
    like = (
        SMALL
        + """
[[model]]
slug = "maker/large"
like = "maker/small"
quality = "premium"
inputs_from = "partly"
[model.inputs]
steps = { type = "integer", default = 9, max = 50 }
[model.price]
as_of = "2025"
source = "model page"
tiers = []
"""
    )
    small, large = read_models("some.toml", like)
    assert large.quality is Quality.PREMIUM
    assert large.aliases == ()
    assert large.inputs["steps"].max == 50
    assert large.inputs["prompt"] == small.inputs["prompt"]
    assert large.map == small.map
    assert large.price.tiers == ()
    with pytest.raises(ModelFileError, match=r"some\.toml: maker/large: price"):
        read_models("some.toml", like.split('[model.price]\nas_of = "2025"')[0])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('kind = "official"', 'kind = "public"', "kind"),
        ('kind = "official"', 'kind = "community"', "version"),
        ("max_run = 60", "max_run = 60\ncolour = 1", "colour"),
        ("max_run = 60", "max_run = 7200", "max_run"),
        ('slug = "maker/small"', 'slug = "small"', "slug"),
        ('modality = "image"', 'modality = "text"', "chat"),
        ('type = "integer"', 'type = "int"', "inputs.steps.type"),
        ("max = 8", "most = 8", "inputs.steps.most"),
        ('steps = "steps"', 'steps = "stepz"', "map.steps"),
        ('steps = "steps"', 'stepz = "steps"', "map.stepz"),
        ('steps = "steps"', 'steps = { rule = "magic", to = "steps" }', "map.steps"),
        ('steps = "steps"', 'size = "steps"', "map.size"),
        ('steps = "steps"', 'steps = { rule = "direct", to = "steps", needs = "x" }', "map.steps"),
        ('steps = "steps"', 'count = { rule = "count", to = "prompt" }', "map.count"),
        (
            'steps = "steps"',
            'megapixels = { rule = "choice", to = "steps", words = { one = 99 } }',
            "map.megapixels",
        ),
        (
            'steps = "steps"',
            'size = { rule = "ratio", to = "prompt", area = "steps" }',
            "map.size: the input 'steps' needs an enum",
        ),
        (
            'steps = "steps"',
            'steps = { rule = "direct", to = "steps", also = { prompt = 1 } }',
            "map.steps.also.prompt",
        ),
        (
            'steps = "steps"',
            'megapixels = { rule = "frames", to = "steps", fps = "rate" }',
            "map.megapixels: there is no input 'rate'",
        ),
        ("max_run = 60", "max_run = 60\ndefaults = { steps = 9 }", "defaults.steps"),
        ("max_run = 60", "max_run = 60\ndefaults = { stepz = 1 }", "defaults"),
        ("max_run = 60", "max_run = 60\noutput_format = 'x'", "output_format"),
        ('media_type = "image/png"', 'mime = "image/png"', "output.mime"),
        ('usd = "0.003"', "usd = 0.003", "price.tiers.0.rates.0.usd"),
        ('usd = "0.003"', 'usd = "-1"', "price.tiers.0.rates.0"),
        ("per = 1 }", "per = 12 }", "price.tiers.0.rates.0"),
        ("per = 1 }", "each = 1 }", "price.tiers.0.rates.0.each"),
    ],
)
def test_a_mistake_is_named_by_file_model_and_field(old: str, new: str, complaint: str) -> None:
    """Nothing is guessed and nothing unknown is passed over."""
    assert old in SMALL
    with pytest.raises(ModelFileError) as wrong:
        read_models("some.toml", SMALL.replace(old, new, 1))
    text = str(wrong.value)
    assert text.startswith("some.toml: ")
    assert complaint in text
    assert "maker/small" in text or "small: slug" in text


def test_broken_toml_names_the_line() -> None:
    """A file that cannot be read at all."""
    with pytest.raises(ModelFileError, match=r"some\.toml: .*line 2"):
        read_models("some.toml", "[[model]]\nslug = \n")
    with pytest.raises(ModelFileError, match="nothing but"):
        read_models("some.toml", "[models]\n")


def test_the_inherited_model_must_come_first() -> None:
    """No search, no cycles."""
    with pytest.raises(ModelFileError, match="like: no model 'maker/none'"):
        read_models("some.toml", '[[model]]\nslug = "maker/one"\nlike = "maker/none"\n')


def test_names_are_unique_and_references_resolve() -> None:
    """Two models of one name, a default that is none: the catalog does not come about."""
    models = read_models("some.toml", SMALL)
    with pytest.raises(ModelFileError, match="two models"):
        Catalog([*models, *models], defaults={})
    with pytest.raises(ModelFileError, match=r"defaults\.image_model: no image model"):
        Catalog(models, defaults={Modality.IMAGE: "large"})
    with pytest.raises(ModelFileError, match=r"defaults\.video_model: no video model"):
        Catalog(models, defaults={Modality.VIDEO: "small"})
    [orphan] = read_models(
        "some.toml",
        SMALL.replace("max_run = 60", "max_run = 60\nstatus = 'retired'\nsuccessor = 'a/b'"),
    )
    with pytest.raises(ModelFileError, match="maker/small: successor"):
        Catalog([orphan], defaults={})


def test_the_shipped_catalog_has_all_documented_names() -> None:
    """Every alias and slug of the first catalog, each of its modality."""
    catalog = shipped_catalog()
    promised = {
        Modality.TEXT: ["llama-70b", "llama-8b", "claude", "anthropic/claude-4.5-haiku"],
        Modality.IMAGE: ["flux-pro", "flux-dev", "flux-schnell", "sdxl", "playground-v2.5"],
        Modality.VIDEO: ["minimax-video", "bytedance/seedance-1-pro", "google/veo-3-fast"],
        Modality.AUDIO: ["musicgen", "suno", "minimax/speech-02-turbo"],
    }
    for modality, names in promised.items():
        for name in names:
            assert catalog.find(modality, name).modality is modality
        assert len(catalog.models(modality)) >= 4
        assert (
            catalog.find(modality, "").slug == catalog.find(modality, DEFAULT_MODELS[modality]).slug
        )
    assert len({model.slug for model in catalog.models()}) == len(catalog.models())
