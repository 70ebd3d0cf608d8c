"""Every kind of answer fits the OpenAPI document of Replicate's that MEDIAGATE_TEST_OPENAPI names.

The document is not part of this project: without it this is the one test that may skip.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Opener
from .openapi_validator import Description
from .sandbox_client import LLAMA, SCHNELL, Answer, SandboxClient
from .webhook_receiver import receiving

GUARD = "meta/llama-guard-3-8b"
OLD_SDXL = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b"
FORM = "multipart/form-data; boundary=b"
NOT_HERE = {
    ("POST", "/models"), ("PATCH", "/models/{model_owner}/{model_name}"),
    ("DELETE", "/models/{model_owner}/{model_name}"),
    ("DELETE", "/models/{model_owner}/{model_name}/versions/{version_id}"),
    ("POST", "/models/{model_owner}/{model_name}/versions/{version_id}/trainings"),
    ("GET", "/trainings"), ("GET", "/trainings/{training_id}"),
    ("POST", "/trainings/{training_id}/cancel"), ("POST", "/deployments"),
    ("PATCH", "/deployments/{deployment_owner}/{deployment_name}"),
    ("DELETE", "/deployments/{deployment_owner}/{deployment_name}"),
}  # fmt: skip
"""Making and changing models and deployments, trainings: the sandbox has none of it."""


class JudgedCaller(SandboxClient):
    """A caller whose every answer is held against the document as it comes."""

    description: Description

    async def send(self, method: str, path: str, content: Any = None, /, **headers: str) -> Answer:
        answer = await super().send(method, path, content, **headers)
        url = path.removeprefix(self.sandbox.url)
        if url.startswith("/v1/"):
            assert self.description.misfits(method, url, answer) == []
        return answer


@pytest.fixture(scope="module")
def document() -> Any:
    path = os.environ.get("MEDIAGATE_TEST_OPENAPI")
    if not path:
        pytest.skip("missing: MEDIAGATE_TEST_OPENAPI names no OpenAPI document of Replicate's")
    return json.loads(Path(path).read_text("utf-8"))


@pytest.fixture
def description(document: Any) -> Description:
    return Description(document)


@pytest.fixture
async def judged(description: Description, open_sandbox: Opener) -> AsyncIterator[JudgedCaller]:
    async with open_sandbox(late_answer_status=202) as plain:
        caller = JudgedCaller(plain.sandbox, plain.session)
        caller.description = description
        yield caller


async def predictions(caller: JudgedCaller) -> None:
    """Every way to create, every status, at every stage; lists, pages, cancels."""
    body = {"input": {"prompt": "x"}}
    await caller.created(LLAMA, {"prompt": "x [[tokens=30]]"}, Cancel_After="1m")
    await caller.created(SCHNELL, {"prompt": "x"}, Prefer="wait")
    late = await caller.create(SCHNELL, {"prompt": "x [[hang]]"}, Prefer="wait=1")
    assert late.status == 202
    for url in (f"models/{SCHNELL}", "deployments/sandbox/audio"):
        for prefer, status in (("", 201), ("wait=1", 202)):
            hanging = {"input": {"prompt": "x [[hang]]"}} if prefer else body
            path = f"/v1/{url}/predictions"
            answer = await caller.send("POST", path, hanging, Prefer=prefer)
            assert answer.status == status
    for slug, prompt in (
        (LLAMA, "x [[fail=no]]"), (LLAMA, "x [[fail]]"), (SCHNELL, "x"),
        ("meta/musicgen", "x"), ("sandbox/new-shapes", "x"), ("minimax/video-01", "x"),
    ):  # fmt: skip
        model = (await caller.get(f"/v1/models/{slug}")).json
        given = {"prompt": prompt, "strength": 1}
        await caller.ran(model["latest_version"]["id"], given)
    canceled = await caller.created(SCHNELL, {"prompt": "x [[hang]]"})
    await caller.send("POST", canceled["urls"]["cancel"])
    await caller.get(canceled["urls"]["get"])
    assert len((await caller.get("/v1/predictions")).json["results"]) > 10


async def refusals(caller: JudgedCaller) -> None:
    """Every status of a refusal, in the form they share."""
    for version, given, status in (
        (GUARD, {"prompt": "x"}, 422),
        (SCHNELL, {}, 422),
        (SCHNELL, {"prompt": "x", "num_outputs": 99}, 422),
        (LLAMA, {"prompt": "[[tokens=x]]"}, 422),
    ):
        assert (await caller.create(version, given)).status == status
    assert (await caller.create(LLAMA, {}, Cancel_After="1s")).status == 422
    assert (await caller.send("POST", "/v1/predictions", b"{")).status == 400
    assert (await caller.send("GET", "/v1/account", Authorization="")).status == 401
    assert (await caller.get("/v1/predictions?cursor=x")).status == 400
    for path in ("predictions/x", "models/no/body", "collections/x", "files/x", "nothing"):
        assert (await caller.get(f"/v1/{path}")).status == 404
    await caller.send("POST", "/sandbox/limits", {"credit": "none"})
    assert (await caller.create(LLAMA, {})).status == 402
    await caller.send("POST", "/sandbox/limits", {"credit": "low"})
    assert [(await caller.create(LLAMA, {})).status for _ in range(2)] == [201, 429]
    await caller.send("DELETE", "/sandbox/limits")


async def files(caller: JudgedCaller) -> None:
    """Upload, list, get, download, delete; what is not there and what is too much."""
    head = b"--b\r\nContent-Disposition: form-data; name=content; filename=a.txt\r\n\r\n"
    form = head + b"hello\r\n--b--\r\n"
    file = (await caller.send("POST", "/v1/files", form, Content_Type=FORM)).json
    await caller.get("/v1/files")
    await caller.get(file["urls"]["get"])
    link = (await caller.get(f"/sandbox/files/{file['id']}/link")).json["url"]
    assert (await caller.get(link)).body == b"hello"
    assert (await caller.get(link + "x")).status == 404
    for status in (204, 404):
        assert (await caller.send("DELETE", file["urls"]["get"])).status == status
    assert (await caller.get(file["urls"]["get"])).status == 404
    large = head + b"x" * 200_000 + b"\r\n--b--\r\n"
    answer = await caller.send("POST", "/v1/files", large, Content_Type=FORM)
    assert answer.status == 413


async def models(caller: JudgedCaller) -> None:
    """Models in every way they can be found, and everything around them."""
    model = (await caller.get(f"/v1/models/{SCHNELL}")).json
    version = model["latest_version"]["id"]
    for path in (
        "/v1/models", f"/v1/models/{SCHNELL}/versions", f"/v1/models/{SCHNELL}/versions/{version}",
        f"/v1/models/{SCHNELL}/examples", f"/v1/models/{SCHNELL}/readme", "/v1/collections",
        "/v1/collections/text-to-image", "/v1/search?query=image+video", "/v1/hardware",
        "/v1/account", "/v1/deployments", "/v1/deployments/sandbox/text",
        "/v1/webhooks/default/secret", "/v1/models/mattt/empty", "/v1/models/mattt/empty/examples",
        "/v1/models/sandbox/new-shapes", "/v1/models/stability-ai/sdxl/versions",
        f"/v1/models/stability-ai/sdxl/versions/{OLD_SDXL}", "/v1/models/suno-ai/bark/examples",
    ):  # fmt: skip
        assert (await caller.get(path)).status == 200
    assert (await caller.send("QUERY", "/v1/models", b"image")).status == 200
    assert (await caller.get("/v1/models/no/body/readme")).status == 404
    assert (await caller.get("/v1/search")).status == 400


async def not_here(caller: JudgedCaller) -> None:
    """Every operation that the sandbox has not got says so, in the form of all errors."""
    for method, path in NOT_HERE:
        url = "/v1" + re.sub(r"\{\w+\}", "x", path)
        answer = await caller.send(method, url, {})
        assert (answer.status, answer.json["title"]) == (405, "Not implemented"), url
        assert answer.json["detail"].startswith("This sandbox does not ")


async def test_responses_match_the_description(
    description: Description, open_sandbox: Opener
) -> None:
    """All of them, as they come; and of what is described nothing is left out unsaid."""
    async with open_sandbox(late_answer_status=202, max_upload_bytes=100_000) as plain:
        caller = JudgedCaller(plain.sandbox, plain.session)
        caller.description = description
        for drive in (predictions, refusals, files, models, not_here):
            await drive(caller)
    missing = {each for each in description.described() - description.judged if each[2] != 500}
    assert {(method, path) for method, path, _ in missing} == NOT_HERE


async def test_removed_data_matches_the_description(
    description: Description, open_sandbox: Opener
) -> None:
    """A prediction whose data is gone is one still."""
    async with open_sandbox(data_retention=0) as plain:
        caller = JudgedCaller(plain.sandbox, plain.session)
        caller.description = description
        assert (await caller.ran(SCHNELL, {"prompt": "x"}))["data_removed"]


async def test_aborted_predictions_match_the_description(
    description: Description, open_sandbox: Opener
) -> None:
    """A deadline that passed in the queue."""
    async with open_sandbox(min_cancel_after=0) as plain:
        caller = JudgedCaller(plain.sandbox, plain.session)
        caller.description = description
        given = {"prompt": "x [[boot_ms=600000]]"}
        ended = await caller.ended(await caller.created(SCHNELL, given, Cancel_After="0"))
        assert ended["status"] == "aborted"


async def test_webhooks_match_the_description(
    description: Description, open_sandbox: Opener
) -> None:
    """Each body is a prediction."""
    async with open_sandbox() as caller, receiving() as receiver:
        for model in (LLAMA, SCHNELL):
            body = {"version": model, "input": {"prompt": "x"}, "webhook": receiver.url}
            body["webhook_events_filter"] = ["start", "output", "logs", "completed"]
            await caller.send("POST", "/v1/predictions", body)
            for got in await receiver.until("succeeded"):
                assert description.of_prediction(got.json) == []


async def test_the_validator_detects_mistakes(judged: JudgedCaller) -> None:
    """Each of these mistakes would have been found."""
    url = f"/v1/models/{SCHNELL}"
    good = await judged.get("/v1/predictions")
    created = await judged.created(LLAMA, {"prompt": "x"})
    description = judged.description
    for spoilt in (
        {"status": "running"}, {"created_at": "yesterday"}, {"output": ...}, {"input": None},
        {"logs": None}, {"urls": {"get": "no"}}, {"data_removed": "no"}, {"version": 7},
    ):  # fmt: skip
        document = copy.deepcopy(created) | spoilt
        document = {name: value for name, value in document.items() if value is not ...}
        assert description.of_prediction(document), spoilt
    wrong = [
        Answer(200, good.headers, b'{"owner": 7}'),
        Answer(200, {"Content-Type": "text/html"}, b"{}"),
        Answer(204, good.headers, b""),
        Answer(404, good.headers, b'{"detail": "x", "status": 404}'),
        Answer(404, {"Content-Type": "application/problem+json"}, b'{"status": 404}'),
    ]
    for answer in wrong:
        assert description.misfits("GET", url, answer), answer
