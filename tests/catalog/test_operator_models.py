"""The operator's own models and prices: laid over those that come along, named where wrong."""

from decimal import Decimal
from pathlib import Path

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.live import LiveCatalog, build_catalog
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.config import ConfigError, Configuration, Settings, load_settings
from tests.catalog.builders import shipped_catalog

OURS = """
[[model]]
slug = "acme/ours"
like = "black-forest-labs/flux-dev"
aliases = ["ours"]
kind = "deployment"
inputs_from = "partly"
price = { as_of = "2026-11", source = "our contract", per_image = "0.01" }

[[model]]
slug = "minimax/hailuo-2.3"
[model.price]
as_of = "2026-11-20"
source = "our own reading"
assumed = true
per_video = "0.28"
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A file of the operator's."""
    path = tmp_path / "models.toml"
    path.write_text(OURS)
    return path


@pytest.fixture
def configuration(tmp_path: Path, models: Path) -> Configuration:
    """A configuration file that names it, by a path that begins beside it."""
    path = tmp_path / "gate.toml"
    path.write_text('[catalog]\nfiles = ["models.toml"]\n')
    return Configuration(load_settings(path, {}), path)


def film(catalog: Catalog) -> ModelRequest:
    """A request for the model whose price is the operator's."""
    assert catalog.find_by_name("hailuo")
    return ModelRequest(Modality.VIDEO, "hailuo", {"prompt": "x"}, max_cost_nanos=10**9)


def test_an_operators_model(configuration: Configuration) -> None:
    """It takes what it is like, at its own price, by its own address."""
    catalog = LiveCatalog(configuration).current()
    plan = catalog.plan(ModelRequest(Modality.IMAGE, "ours", {"prompt": "x", "steps": 9}))
    assert plan.target == "deployments/acme/ours"
    assert plan.input["num_inference_steps"] == 9
    assert plan.estimate.maximum == 10_000_000


def test_an_operators_price(configuration: Configuration) -> None:
    """The rest of the model stays as it came; what the operator assumes is said to be, and counts
    though the catalog's own assumptions may not.
    """
    assert not shipped_catalog().plan(film(shipped_catalog())).price.assumed
    live = LiveCatalog(configuration)
    for catalog in (live.current(), live.for_assumed_prices(assumed=False)):
        plan = catalog.plan(film(catalog))
        assert plan.estimate.maximum == 280_000_000
        assert plan.price.assumed
        assert plan.price.tiers[0].rates[0].usd == Decimal("0.28")
    model = catalog.find_by_name("hailuo-2.3")
    assert model is not None
    assert model.fallbacks == ("minimax/hailuo-02", "bytedance/seedance-1-pro")


def test_a_reload_reads_the_model_files(configuration: Configuration, models: Path) -> None:
    """Though no setting changed; a broken one changes nothing, and the next good one is taken."""
    live = LiveCatalog(configuration)
    before = live.current()
    assert live.current() is before
    models.write_text(OURS.replace('"0.28"', '"0.31"'))
    configuration.reload()
    price = live.current().plan(film(live.current())).estimate.maximum
    assert price == 310_000_000
    good = live.current()
    models.write_text(OURS.replace('"0.28"', "0.31"))
    with pytest.raises(ConfigError, match="write it as a string"):
        configuration.reload()
    assert live.current() is good
    models.unlink()
    with pytest.raises(ConfigError, match=r"models\.toml: cannot be read"):
        configuration.reload()
    assert live.current() is good
    models.write_text("")
    configuration.reload()
    assert live.current().find_by_name("ours") is None


def test_files_to_watch(configuration: Configuration, models: Path) -> None:
    """The configuration's own file and those that it names."""
    assert [path.name for path in configuration.files()] == ["gate.toml", "models.toml"]


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ('kind = "deployment"', 'kind = "private"', 6, "acme/ours: kind"),
        ('as_of = "2026-11-20"', "as_of = 2026", 13, "minimax/hailuo-2.3: price.as_of"),
        ('per_video = "0.28"', 'per_clip = "0.28"', 16, "minimax/hailuo-2.3: price.per_clip"),
        ('aliases = ["ours"]', 'aliases = ["ours"]\nfallbacks = ["acme/ours"]', 2, "acme/ours"),
        ('like = "black-forest-labs/flux-dev"', 'like = "nobody/none"', 4, "acme/ours: like"),
        ('slug = "minimax/hailuo-2.3"', 'slug = "acme/ours"', 11, "acme/ours: slug"),
        ('slug = "minimax/hailuo-2.3"', 'slug = "maker/new"', 10, "maker/new: modality"),
        ('"0.28"', '"0.28', 16, "Illegal character"),
    ],
)
def test_a_mistake_is_named_by_its_line(
    models: Path, old: str, new: str, line: int, complaint: str
) -> None:
    """File, line, model and field."""
    models.write_text(OURS.replace(old, new, 1))
    with pytest.raises(ConfigError) as wrong:
        build_catalog(Settings(catalog_files=(models,)))
    text = str(wrong.value)
    assert str(models) in text
    assert complaint in text
    assert f"line {line}" in text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (OURS.replace('aliases = ["ours"]', 'aliases = ["sdxl"]'), "two models are called 'sdxl'"),
        ('[[model]]\nslug = "stability-ai/sdxl"\nstatus = "retired"\n', "is retired"),
        ("[models]\n", "nothing but"),
    ],
)
def test_conflicting_models_are_refused(models: Path, text: str, complaint: str) -> None:
    """A name that is taken; a model that others count on."""
    models.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        build_catalog(Settings(catalog_files=(models,)))
