"""Finding models: by query, by text, by collection; and what else is told about them."""

from __future__ import annotations

import pytest

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient


def slugs(models: list[dict[str, str]]) -> list[str]:
    """`owner/name` of each."""
    return [f"{each['owner']}/{each['name']}" for each in models]


async def test_the_query_method(sandbox_client: SandboxClient) -> None:
    """The body is the query; the best match comes first, and nothing matches nonsense."""
    answer = await sandbox_client.send(
        "QUERY", "/v1/models", b"flux schnell", Content_Type="text/plain"
    )
    assert answer.status == 200
    assert slugs(answer.json["results"])[0] == SCHNELL
    assert answer.json["results"][0] == (await sandbox_client.get(f"/v1/models/{SCHNELL}")).json
    answer = await sandbox_client.send("QUERY", "/v1/models", b"xyzzy", Content_Type="text/plain")
    assert answer.json == {"previous": None, "next": None, "results": []}


async def test_query_pages(open_sandbox: Opener) -> None:
    """Every match once, over as many pages as it takes."""
    async with open_sandbox(models_per_page=3) as caller:
        url, slugs_found = "/v1/models", list[str]()
        while url:
            page = (await caller.send("QUERY", url, b"video")).json
            slugs_found += slugs(page["results"])
            url = page["next"]
        assert len(slugs_found) == len(set(slugs_found)) > 5


async def test_oversized_and_undecodable_queries(sandbox_client: SandboxClient) -> None:
    """400 for a book; bytes that are no text find nothing."""
    assert (await sandbox_client.send("QUERY", "/v1/models", b"x" * 5000)).status == 400
    assert (await sandbox_client.send("QUERY", "/v1/models", b"\xff\xfe")).json["results"] == []


async def test_search(sandbox_client: SandboxClient) -> None:
    """Models with tags and a falling score, collections with their models; without a token."""
    answer = await sandbox_client.send(
        "GET", "/v1/search?query=Generate+Videos&limit=5", Authorization=""
    )
    assert answer.status == 200
    results = answer.json
    scores = [each["metadata"]["score"] for each in results["models"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    shelf = next(each for each in results["collections"] if each["slug"] == "text-to-video")
    assert "minimax/video-01" in shelf["models"]
    (meta,) = (await sandbox_client.get("/v1/search?query=schnell")).json["models"]
    assert "text-to-image" in meta["metadata"]["tags"]


@pytest.mark.parametrize("query", ["", "?query=", "?query=%20"])
async def test_search_wants_a_query(sandbox_client: SandboxClient, query: str) -> None:
    """400 in Replicate's words."""
    answer = await sandbox_client.get("/v1/search" + query)
    assert (answer.status, answer.json["detail"]) == (400, 'Query parameter "query" is required')


@pytest.mark.parametrize("limit", ["0", "51", "x", "-1", "1e9", "9" * 5000])
async def test_search_takes_limits_it_knows(sandbox_client: SandboxClient, limit: str) -> None:
    """From 1 to 50."""
    assert (await sandbox_client.get(f"/v1/search?query=a&limit={limit}")).status == 400


async def test_collections(sandbox_client: SandboxClient) -> None:
    """Each of the list can be read, and holds models that can be, too."""
    listed = (await sandbox_client.get("/v1/collections")).json["results"]
    for each in listed:
        collection = (await sandbox_client.get(f"/v1/collections/{each['slug']}")).json
        assert each.items() <= collection.items()
        assert collection["models"], each
        assert (
            await sandbox_client.get(f"/v1/models/{slugs(collection['models'])[0]}")
        ).status == 200
    official = (await sandbox_client.get("/v1/collections/official")).json["models"]
    assert all(each["is_official"] for each in official)
    assert (await sandbox_client.get("/v1/collections/none")).status == 404


async def test_readme_and_examples_of_a_model(sandbox_client: SandboxClient) -> None:
    """A readme in plain text; 404 for a model that is not there."""
    readme = await sandbox_client.get(f"/v1/models/{LLAMA}/readme")
    assert readme.headers["Content-Type"].startswith("text/plain")
    assert readme.body.startswith(f"# {LLAMA}\n".encode())
    for subresource in ("readme", "examples"):
        assert (await sandbox_client.get(f"/v1/models/no/body/{subresource}")).status == 404


async def test_deployments_are_listed(sandbox_client: SandboxClient) -> None:
    """Each as it is shown alone."""
    listed = (await sandbox_client.get("/v1/deployments")).json["results"]
    assert [each["name"] for each in listed] == ["text", "image", "video", "audio"]
    assert (await sandbox_client.get("/v1/deployments/sandbox/text")).json == listed[0]
