"""Names of models as people and programs write them: run as what they are, or refused by name."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from mediagate.v1 import cost_pb2, generation_pb2, generations_pb2, models_pb2, options_pb2
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from tests.builders import image_request, text_request
from tests.grpc_errors import fields_of, metadata_of, reason_of, rpc_error
from tests.media.file_server import file

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs

SUCCEEDED = generation_pb2.Generation.STATE_SUCCEEDED
SCHNELL = "black-forest-labs/flux-schnell"
VERSION = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa"
SCHEMA = {
    "components": {
        "schemas": {
            "Input": {"type": "object", "properties": {"prompt": {"type": "string"}}},
            "Output": {"type": "string"},
        }
    }
}


def document(slug: str, version: str | None = VERSION, **fields: Any) -> dict[str, Any]:
    """A model's document."""
    owner, _, name = slug.partition("/")
    latest = {"id": version, "openapi_schema": SCHEMA} if version else None
    return {"owner": owner, "name": name, "latest_version": latest, **fields}


def run(model: str, **options: Any) -> models_pb2.RunModelRequest:
    """A request for a run."""
    request = {"model": model, "input": {"prompt": "x"}, "options": options}
    return ParseDict(request, models_pb2.RunModelRequest())


def done(**metrics: Any) -> Any:
    """A run that has ended well."""
    return says({"id": ID, "status": "succeeded", "output": "y", "metrics": metrics}, 201)


@pytest.mark.parametrize("model_fields", [{}, {"is_official": None}, {"is_official": "yes"}])
@pytest.mark.parametrize("version", [VERSION, None])
async def test_official_models_are_addressed_by_slug(
    scripted_upstream: ScriptedUpstream,
    stubs: Stubs,
    model_fields: dict[str, Any],
    version: str | None,
) -> None:
    """Whose document does not say: it is addressed and priced as one."""
    scripted_upstream.models[SCHNELL] = document(SCHNELL, version, **model_fields)
    scripted_upstream.creates = [done(image_output_count=1)]
    generation = (await stubs.models.RunModel(run(SCHNELL))).generation
    assert generation.state == SUCCEEDED
    assert generation.cost.state == cost_pb2.COST_STATE_SETTLED
    assert "version" not in scripted_upstream.posted[0]


@pytest.mark.parametrize(
    ("slug", "version", "model_fields", "sent"),
    [
        ("o/n", None, {}, None),
        ("o/n", VERSION, {}, f"o/n:{VERSION}"),
        ("o/n", VERSION, {"is_official": True}, None),
        ("o/n", VERSION, {"is_official": False}, f"o/n:{VERSION}"),
        ("stability-ai/sdxl", VERSION, {}, f"stability-ai/sdxl:{VERSION}"),
        (SCHNELL, VERSION, {"is_official": False}, f"{SCHNELL}:{VERSION}"),
    ],
)
async def test_the_target_of_a_create(
    scripted_upstream: ScriptedUpstream,
    stubs: Stubs,
    slug: str,
    version: str | None,
    model_fields: dict[str, Any],
    sent: str | None,
) -> None:
    """By the document where it says; without versions only official models are."""
    scripted_upstream.models[slug] = document(slug, version, **model_fields)
    scripted_upstream.creates = [done()]
    assert (await stubs.models.RunModel(run(slug))).generation.state == SUCCEEDED
    assert scripted_upstream.posted[0].get("version") == sent


async def test_an_empty_version_means_no_version(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """In every rpc: `owner/name:` is owner/name."""
    scripted_upstream.models["o/n"] = document("o/n", is_official=True)
    scripted_upstream.creates = [done()]
    generation = (await stubs.models.RunModel(run("o/n:"))).generation
    assert (generation.state, generation.model) == (SUCCEEDED, "o/n")
    slug = "meta/meta-llama-3-70b-instruct"
    request = text_request(prompt="x", model=f"{slug}:")
    assert (await stubs.text.GenerateText(request)).generation.model == slug
    response = await stubs.models.GetModel(models_pb2.GetModelRequest(model=f"{slug}:"))
    assert response.model.slug == slug


async def test_the_catalogs_version_is_the_catalog_model(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """By slug and version, or by the version alone; another version is none of the catalog's."""
    slug = "stability-ai/sdxl"
    response = await stubs.models.GetModel(models_pb2.GetModelRequest(model=slug))
    version = response.model.version
    for name in (f"{slug}:{version}", version, version.upper()):
        response = await stubs.models.GetModel(models_pb2.GetModelRequest(model=name))
        assert response.model.slug == slug
        options = options_pb2.GenerationOptions(model=name)
        request = image_request(prompt="x", options=options, validate_only=True)
        assert (await stubs.image.GenerateImage(request)).plan.model == slug
    options = options_pb2.GenerationOptions(model=f"{slug}:{'0' * 64}")
    with pytest.raises(grpc.aio.AioRpcError, match=f"did you mean {slug}") as caught:
        await stubs.image.GenerateImage(image_request(prompt="x", options=options))
    assert reason_of(caught.value) == "MODEL_NOT_FOUND"
    assert not scripted_upstream.posted


@pytest.mark.parametrize("official", [True, None])
async def test_versions_of_an_official_model_are_not_shown(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, official: bool | None
) -> None:
    """404 is not "no such model": its newest is run, another is refused by name and not paid."""
    scripted_upstream.models[SCHNELL] = document(SCHNELL, VERSION, is_official=official)
    scripted_upstream.creates = [done(image_output_count=1)]
    generation = (await stubs.models.RunModel(run(f"{SCHNELL}:{VERSION}"))).generation
    assert (generation.state, "version" in scripted_upstream.posted[0]) == (SUCCEEDED, False)
    error = await rpc_error(stubs.models.RunModel(run(f"{SCHNELL}:{'0' * 64}")))
    assert reason_of(error) == "INVALID_REQUEST"
    assert fields_of(error) == {"model"}
    assert f"official model, which has no versions to choose: write {SCHNELL}" in str(error)
    assert len(scripted_upstream.posted) == 1


@pytest.mark.parametrize("version", [VERSION, VERSION.upper()])
async def test_an_unknown_version_id_alone_is_refused(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, version: str
) -> None:
    """Nobody could say what it takes and costs."""
    error = await rpc_error(stubs.models.RunModel(run(version)))
    assert (reason_of(error), fields_of(error)) == ("INVALID_REQUEST", {"model"})
    assert "owner/name:version" in str(error)
    assert not scripted_upstream.posted


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("meta/meta-llama-3.1-70b-instruct", "meta/meta-llama-3-70b-instruct"),
        ("black-forest-labs/flux-schnel", SCHNELL),
        ("flux/flux-schnell", SCHNELL),
        ("Black-Forest-Labs/FLUX-SCHNELL-", SCHNELL),
        ("minimax/video-1", "minimax/video-01"),
        ("qqqq/zzzz", ""),
    ],
)
async def test_similar_names_are_suggested_before_any_reservation(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, name: str, nearest: str
) -> None:
    """Of a name that nobody has; no generation, no money, no create."""
    error = await rpc_error(stubs.models.RunModel(run(name)))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(error) == "MODEL_NOT_FOUND"
    offered = metadata_of(error).get("nearest", "")
    assert offered.split(", ")[0] == nearest
    assert (f"did you mean {nearest}" in str(error)) is bool(nearest)
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    assert not listed.generations
    assert not scripted_upstream.posted


async def test_misspelt_names_get_suggestions_in_every_field(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """As the model, as one that may take over, and where one is looked up."""
    wrong = options_pb2.GenerationOptions(model="lama-70b")
    other = options_pb2.GenerationOptions(
        fallback=options_pb2.FallbackPolicy(
            mode=options_pb2.FallbackPolicy.MODE_LIST, models=["lama-70b"]
        )
    )
    for options in (wrong, other):
        with pytest.raises(grpc.aio.AioRpcError, match="did you mean llama-70b"):
            await stubs.text.GenerateText(text_request(prompt="x", options=options))
    with pytest.raises(grpc.aio.AioRpcError, match="did you mean llama-70b"):
        await stubs.models.GetModel(models_pb2.GetModelRequest(model="lama-70b"))
    assert not scripted_upstream.posted


@pytest.mark.parametrize("version", [VERSION, "f" * 64])
async def test_a_deployment_with_a_hidden_version(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, version: str
) -> None:
    """It is there, so it is run: of an official model as that, else unchecked."""
    for slug, model_fields in (("o/official", {}), ("o/own", {"is_official": False})):
        scripted_upstream.models[slug] = document(
            slug, None if not model_fields else VERSION, **model_fields
        )
        name = slug.replace("/", "/the-")
        release = {"model": slug, "version": version, "configuration": {"hardware": "gpu-t4"}}
        deployment = {"owner": "o", "name": name[2:], "current_release": release}
        scripted_upstream.files.put(f"/v1/deployments/{name}", says(deployment))
        end = {"id": name[2:], "status": "succeeded", "output": "y", "metrics": {}}
        scripted_upstream.files.put(f"/v1/deployments/{name}/predictions", says(end, 201))
        generation = (await stubs.models.RunModel(run(f"deployments/{name}"))).generation
        assert generation.state == SUCCEEDED


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("deployment", cost_pb2.COST_STATE_ASSUMED),
        ("deployment of an official model", cost_pb2.COST_STATE_SETTLED),
    ],
)
async def test_the_price_of_dedicated_hardware_is_assumed(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, kind: str, state: int
) -> None:
    """Set-up and idle time are billed, too, and no run's metrics tell of them."""
    slug = SCHNELL if "official" in kind else "o/n"
    scripted_upstream.models[slug] = document(slug, is_official=slug == SCHNELL)
    release = {"model": slug, "version": VERSION, "configuration": {"hardware": "gpu-t4"}}
    deployment = {"owner": "o", "name": "d", "current_release": release}
    scripted_upstream.files.put("/v1/deployments/o/d", says(deployment))
    scripted_upstream.files.put(
        "/v1/deployments/o/d/predictions", done(predict_time=2, image_output_count=1)
    )
    generation = (await stubs.models.RunModel(run("deployments/o/d"))).generation
    assert generation.cost.state == state
    assert generation.cost.usd_nanos == (3_000_000 if slug == SCHNELL else 450_000)


OWN = """
[[model]]
slug = "acme/ours"
like = "black-forest-labs/flux-dev"
inputs_from = "partly"
{kind}
price = {{ as_of = "2026-11", source = "our contract", {price} }}
expects = {{ predict_time = {{ by = "run_time", usual = 3 }} }}
"""
TIME, PIECE = 'per_run_second = "0.001"', 'per_image = "0.01"'


@pytest.mark.parametrize(
    ("kind", "price", "state"),
    [
        ('kind = "deployment"', TIME, cost_pb2.COST_STATE_ASSUMED),
        (f'kind = "community"\nversion = "{VERSION}"\nprivate = true', TIME,
         cost_pb2.COST_STATE_ASSUMED),
        (f'kind = "community"\nversion = "{VERSION}"', TIME, cost_pb2.COST_STATE_SETTLED),
        ('kind = "deployment"', PIECE, cost_pb2.COST_STATE_SETTLED),
    ],
    ids=["deployment", "private", "public", "by the piece"],
)  # fmt: skip
async def test_the_price_of_the_operators_own_model_is_assumed(
    scripted_upstream: ScriptedUpstream,
    open_server: OpenServer,
    tmp_path: Path,
    kind: str,
    price: str,
    state: int,
) -> None:
    """By running time on a machine that waits; ListModels says why. By the piece it is a price."""
    path = tmp_path / "models.toml"
    text = OWN.format(kind=kind, price=price)
    if price == PIECE:
        text = text[: text.index("expects")]
    path.write_text(text)
    picture = render_file(ImageRecipe("a/b", "x", 1, 64, 64, "png"))
    link = scripted_upstream.files.put("/a.png", file(picture, "image/png"))
    metrics = {"predict_time": 2, "image_output_count": 1}
    end = says({"id": ID, "status": "succeeded", "output": [link], "metrics": metrics}, 201)
    scripted_upstream.creates = [end]
    scripted_upstream.files.put("/v1/deployments/acme/ours/predictions", end)
    async with open_server(scripted_upstream.url, catalog_files=(path,)) as (stubs, _):
        response = await stubs.models.GetModel(models_pb2.GetModelRequest(model="acme/ours"))
        generation = (
            await stubs.image.GenerateImage(image_request(prompt="x", model="acme/ours"))
        ).generation
    assert (generation.state, generation.cost.state) == (SUCCEEDED, state)
    assert generation.cost.usd_nanos == (10_000_000 if price == PIECE else 2_000_000)
    is_assumed = state == cost_pb2.COST_STATE_ASSUMED
    assert ("set-up and idle time" in response.model.price.source) is is_assumed
