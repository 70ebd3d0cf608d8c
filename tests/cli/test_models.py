"""`mediagate models` and `mediagate show`."""

import json

import grpc

from mediagate.v1.modality_pb2 import MODALITY_IMAGE, MODALITY_VIDEO, QUALITY_ECONOMY
from mediagate.v1.models_pb2 import (
    GetModelResponse,
    ListModelsResponse,
    Model,
    ModelParameter,
    PriceCriterion,
    PriceRate,
    PriceSchedule,
    PriceTier,
)
from tests.client.rpc_statuses import status
from tests.client.scripted_server import ScriptedServer

from .conftest import Mediagate

PAINTER = Model(
    slug="some-vendor/a-painter-with-a-rather-long-name",
    aliases=["painter", "sdxl"],
    modality=MODALITY_IMAGE,
    quality=QUALITY_ECONOMY,
    status=Model.STATUS_LIVE,
    vendor="Some Vendor",
    capabilities=["inpainting"],
    parameters=[
        ModelParameter(parameter="prompt", input_name="prompt", required=True),
        ModelParameter(parameter="size", input_name="width", minimum=64, maximum=2048),
        ModelParameter(parameter="steps", input_name="steps", minimum=1, default_value="28"),
        ModelParameter(parameter="strength", input_name="strength", maximum=1),
        ModelParameter(parameter="output_format", input_name="fmt", allowed_values=["png", "jpg"]),
    ],
    price=PriceSchedule(
        price_date="2026-10-07",
        tiers=[
            PriceTier(
                criteria=[
                    PriceCriterion(metric="resolution", equals="720p"),
                    PriceCriterion(metric="image_count", over="1", up_to="4"),
                ],
                rates=[PriceRate(metric="image_output_count", usd="0.003", per=1)],
            ),
            PriceTier(rates=[PriceRate(metric="token_input_count", usd="0.65", per=1_000_000)]),
        ],
    ),
)
TIER = (
    "$0.003/image output, where resolution is 720p and image_count over 1 and image_count up to 4"
)
OLD = Model(slug="old/films", modality=MODALITY_VIDEO, status=Model.STATUS_RETIRED)


def test_the_catalog_is_a_table(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """Names in full, also where the output is piped; what is not known is said to be so."""
    scripted_server.plays("ListModels", ListModelsResponse(models=[PAINTER, OLD]))
    done = mediagate("models", "--modality", "image", "--quality", "economy")
    heading, painter, old = (line.rstrip() for line in done.stdout.splitlines())
    assert heading.split() == ["MODEL", "ALSO", "MAKES", "QUALITY", "PRICE"]
    assert painter.startswith("some-vendor/a-painter-with-a-rather-long-name")
    assert painter.endswith("painter, sdxl  image  economy  $0.003/image output ...")
    assert old.startswith("old/films (retired)")
    assert old.endswith("not known")
    [sent] = scripted_server.requests_of("ListModels")
    assert (sent.modality, sent.quality) == (MODALITY_IMAGE, QUALITY_ECONOMY)


def test_one_model_is_shown_in_full(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """What it takes, by the contract's name and its own, and every tier of its price."""
    scripted_server.plays("GetModel", GetModelResponse(model=PAINTER))
    lines = [" ".join(line.split()) for line in mediagate("show", "painter").stdout.splitlines()]
    assert lines == [
        "some-vendor/a-painter-with-a-rather-long-name",
        "also: painter, sdxl",
        "makes: image",
        "quality: economy",
        "by: Some Vendor",
        "can: inpainting",
        "price, 2026-10-07:",
        TIER,
        "$0.65/1M token input",
        "FIELD ITS OWN NAME TAKES DEFAULT",
        "prompt (needed) prompt",
        "size width 64 to 2048",
        "steps steps at least 1 28",
        "strength strength at most 1",
        "output_format fmt png, jpg",
    ]


def test_json_for_programs(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """The contract's own messages."""
    scripted_server.plays("ListModels", ListModelsResponse(models=[PAINTER, OLD]))
    scripted_server.plays("GetModel", GetModelResponse(model=PAINTER))
    listed = json.loads(mediagate("models", "--json").stdout)
    assert [model["slug"] for model in listed] == [PAINTER.slug, OLD.slug]
    assert json.loads(mediagate("show", "painter", "--json").stdout) == listed[0]


def test_no_such_model(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """Refused: exit code 1."""
    scripted_server.plays(
        "GetModel", status(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "no 'x'")
    )
    done = mediagate("show", "x")
    assert (done.exit_code, done.stderr) == (1, "mediagate: no 'x' (MODEL_NOT_FOUND)\n")
