"""The front door: tokens, control endpoints, and what never leaves the sandbox."""

from __future__ import annotations

import json
import logging

import pytest

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient

SECRET = "r8_secret_of_this_test"
UNAUTHENTICATED = {
    "title": "Unauthenticated",
    "detail": "You did not pass a valid authentication token",
    "status": 401,
}


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "abc"])
async def test_the_api_needs_a_token(sandbox_client: SandboxClient, value: str) -> None:
    """401 as Replicate words it, for reads and creates alike, and nothing is created."""
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/predictions"), ("GET", "/v1/no")):
        answer = await sandbox_client.send(method, path, {}, Authorization=value)
        assert (answer.status, answer.json) == (401, UNAUTHENTICATED)
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert (await sandbox_client.state())["creates"]["total"] == 0


async def test_any_token_is_accepted(sandbox_client: SandboxClient) -> None:
    """With either word before it."""
    for value in ("Bearer x", "bearer x", "Token x"):
        assert (await sandbox_client.get("/v1/account", Authorization=value)).status == 200


async def test_a_specific_token_can_be_required(open_sandbox: Opener) -> None:
    """Then every other is refused."""
    async with open_sandbox(token=SECRET) as caller:
        assert (await caller.get("/v1/account")).status == 401
        answer = await caller.get("/v1/account", Authorization=f"Bearer {SECRET}")
        assert answer.status == 200
        assert SECRET not in repr(caller.sandbox.settings)


async def test_auth_can_be_open_or_refuse_all(open_sandbox: Opener) -> None:
    """To work without a token, and to see how a caller takes a revoked one."""
    async with open_sandbox(auth="open") as caller:
        assert (await caller.get("/v1/account", Authorization="")).status == 200
    async with open_sandbox(auth="refuse") as caller:
        assert (await caller.get("/v1/account")).status == 401


async def test_state_reports_callers_requests(sandbox_client: SandboxClient) -> None:
    """Creates by model and input, cancels with their time, who showed a token where."""
    document = await sandbox_client.created(LLAMA, {"prompt": "x [[hang]]"})
    await sandbox_client.created(LLAMA, {"prompt": "x [[hang]]"})
    picture = await sandbox_client.ran(SCHNELL, {"prompt": "y"})
    await sandbox_client.send("POST", document["urls"]["cancel"])
    await sandbox_client.stream(document)
    await sandbox_client.send("GET", picture["output"][0], Authorization="")
    state = await sandbox_client.state()
    assert state["creates"]["total"] == 3
    assert state["creates"]["by_model"] == {LLAMA: 2, SCHNELL: 1}
    assert sorted(state["creates"]["by_input_sha256"].values()) == [1, 2]
    (cancel,) = state["cancels"]
    assert cancel["prediction"] == document["id"]
    assert cancel["status_before"] in ("starting", "processing")
    assert cancel["at"] >= state["creates"]["list"][0]["at"]
    assert state["streams_by_prediction"] == {document["id"]: 1}
    counts_by_part = {each["part"]: each for each in state["authorization"]}
    assert counts_by_part["/v1"]["without_header"] == 0
    assert counts_by_part["/v1/streams"]["with_header"] == 0
    assert counts_by_part["/files"]["with_header"] == 0
    assert {each["status"] for each in state["predictions"]} == {
        "processing", "canceled", "succeeded",
    }  # fmt: skip


async def test_control_can_be_disabled(open_sandbox: Opener) -> None:
    """Then there is nothing under /sandbox."""
    async with open_sandbox(control=False) as caller:
        assert (await caller.get("/sandbox/state")).status == 404


async def test_secrets_are_neither_stored_nor_logged(
    sandbox_client: SandboxClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither token nor prompt nor stream key is in the state or in the logs."""
    caplog.set_level(logging.DEBUG)
    given = {"prompt": "a very private prompt"}
    document = await sandbox_client.created(LLAMA, given, Authorization=f"Bearer {SECRET}")
    await sandbox_client.stream(document, Authorization=f"Bearer {SECRET}")
    key = document["urls"]["stream"].rpartition("/")[2]
    logged = json.dumps(await sandbox_client.state()) + "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("mediagate")
    )
    assert "POST /v1/predictions 201" in logged
    for secret in (SECRET, "private", key):
        assert secret not in logged


async def test_links_use_the_requests_host(open_sandbox: Opener) -> None:
    """A caller that reaches the sandbox by another name gets links with that name."""
    async with open_sandbox() as caller:
        answer = await caller.create(LLAMA, {"prompt": "x"}, Host="box:1234")
        assert all(each.startswith("http://box:1234/") for each in answer.json["urls"].values())
    async with open_sandbox(public_url="https://sandbox.example/") as caller:
        document = (await caller.create(SCHNELL, {"prompt": "x"}, Prefer="wait")).json
        assert document["output"][0].startswith("https://sandbox.example/files/")
        url = caller.sandbox.url + "/v1/predictions/" + document["id"]
        assert (await caller.get(url)).json["urls"]["get"].startswith("https://sandbox.example/")


async def test_pages_for_people(sandbox_client: SandboxClient) -> None:
    """The front page says what this is; a prediction's page shows its output, escaped."""
    assert sandbox_client.sandbox.base_url in (await sandbox_client.get("/")).body.decode()
    document = await sandbox_client.ran(LLAMA, {"prompt": "[[say=<script>]]"})
    page = (await sandbox_client.get(document["urls"]["web"])).body.decode()
    assert "&lt;script&gt;" in page
    picture = await sandbox_client.ran(SCHNELL, {"prompt": "x"})
    page = (await sandbox_client.get(picture["urls"]["web"])).body.decode()
    assert f'<img src="{picture["output"][0]}">' in page
    assert (await sandbox_client.get("/p/none")).status == 404
