"""Commands `models` and `show`: the catalog's models, their parameters and prices."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.generations import print_generation
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import enum_word, print_json, to_json, wide_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mediagate.v1.models_pb2 import Model, ModelParameter, PriceRate, PriceTier
    from mediagate_client import AsyncClient

Name = Annotated[
    str,
    typer.Argument(help="Slug or alias of a model, or a generation's id.", metavar="NAME"),
]
_GENERATION_PREFIX: Final = "gen_"


@expand_option_groups
def models(
    server: o.ServerOptions,
    modality: Annotated[o.ModalityName | None, typer.Option(help="Only those.")] = None,
    quality: Annotated[o.QualityName | None, typer.Option(help="Only those.")] = None,
    as_json: o.Json = False,
) -> None:
    """List the models of the server's catalog."""

    async def work(client: "AsyncClient") -> None:
        listed = await client.models(
            modality=modality.value if modality else None,
            quality=quality.value if quality else None,
        )
        if as_json:
            print_json([to_json(model) for model in listed])
        else:
            _print_table(listed)

    run_with_client(server, work)


@expand_option_groups
def show(
    server: o.ServerOptions,
    name: Name,
    as_json: o.Json = False,
) -> None:
    """Show a model, its parameters and its price; or a generation, by its id (gen_...)."""

    async def work(client: "AsyncClient") -> None:
        if name.startswith(_GENERATION_PREFIX):
            generation = await client.get(name)
            if as_json:
                print_json(to_json(generation))
            else:
                print_generation(generation)
            return
        model = await client.model(name)
        if as_json:
            print_json(to_json(model))
        else:
            _print_model(model)

    run_with_client(server, work)


def _print_table(models_: "Sequence[Model]") -> None:
    """Print a table of models."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("MODEL", "ALSO", "MAKES", "QUALITY", "PRICE"):
        table.add_column(heading, no_wrap=heading not in ("ALSO", "PRICE"), overflow="fold")
    for model in models_:
        slug = f"{model.slug} (retired)" if model.status == model.STATUS_RETIRED else model.slug
        makes = enum_word("Modality", model.modality)
        quality = enum_word("Quality", model.quality)
        table.add_row(slug, ", ".join(model.aliases), makes, quality, _price(model))
    wide_console().print(table)


def _print_model(model: "Model") -> None:
    """Print one model with all its parameters."""
    from rich.table import Table

    facts = {
        "also": ", ".join(model.aliases),
        "makes": enum_word("Modality", model.modality),
        "quality": enum_word("Quality", model.quality),
        "by": model.vendor,
        "can": ", ".join(model.capabilities),
        "successor": model.successor,
        "stands in for": ", ".join(stand_in.name for stand_in in model.stands_in_for),
        "safety": _safety(model),
        "longest run": f"{model.max_run.ToTimedelta()}" if model.HasField("max_run") else "",
    }
    print(model.slug)
    for name, value in facts.items():
        if value:
            print(f"  {name}: {value}")
    dated = f", {model.price.price_date}" if model.price.price_date else ""
    assumed = f", {model.price.source}" if model.price.assumed else ""
    print(f"  price{dated}{assumed}:" if model.price.tiers else "  price: not known")
    for tier in model.price.tiers:
        print(f"    {_tier(tier)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("FIELD", "ITS OWN NAME", "TAKES", "DEFAULT"):
        table.add_column(heading, overflow="fold")
    for parameter in model.parameters:
        field = f"{parameter.parameter} (needed)" if parameter.required else parameter.parameter
        takes = format_parameters(parameter)
        table.add_row(field, parameter.input_name, takes, parameter.default_value)
    wide_console().print(table)


def _safety(model: "Model") -> str:
    """Format a safety class; empty if unspecified."""
    name = model.SafetyClass.Name(model.safety_class).removeprefix("SAFETY_CLASS_")
    return "" if name == "UNSPECIFIED" else name.lower()


def format_parameters(parameter: "ModelParameter") -> str:
    """Format the values that a parameter takes: "5, 10", "1 to 4", "at least 1", or nothing."""
    if parameter.allowed_values:
        return ", ".join(parameter.allowed_values)
    if parameter.HasField("minimum") and parameter.HasField("maximum"):
        return f"{parameter.minimum:g} to {parameter.maximum:g}"
    if parameter.HasField("minimum"):
        return f"at least {parameter.minimum:g}"
    return f"at most {parameter.maximum:g}" if parameter.HasField("maximum") else ""


def _price(model: "Model") -> str:
    """Format the first tier of a model's price."""
    if not model.price.tiers:
        return "not known"
    first = " + ".join(_rate(rate) for rate in model.price.tiers[0].rates)
    more = " ..." if len(model.price.tiers) > 1 else ""
    return f"{first}{more}{' (assumed)' if model.price.assumed else ''}"


def _tier(tier: "PriceTier") -> str:
    """Format a tier: its rates and its criteria."""
    criteria = []
    for criterion in tier.criteria:
        if criterion.HasField("equals"):
            criteria.append(f"{criterion.metric} is {criterion.equals}")
        if criterion.HasField("over"):
            criteria.append(f"{criterion.metric} over {criterion.over}")
        if criterion.HasField("up_to"):
            criteria.append(f"{criterion.metric} up to {criterion.up_to}")
    rates = " + ".join(_rate(rate) for rate in tier.rates)
    return f"{rates}, where {' and '.join(criteria)}" if criteria else rates


def _rate(rate: "PriceRate") -> str:
    """Format a rate: "$0.65/1M token input"."""
    units = rate.metric.removesuffix("_count").replace("_", " ")
    many = {1: "", 1_000: "1k ", 1_000_000: "1M "}.get(rate.per, f"{rate.per:,} ")
    return f"${rate.usd}/{many}{units}"
