"""Calls every method of the `replicate` package 2.0 beta; says for each, as JSON, how it went.

Run in an environment of its own, with REPLICATE_BASE_URL (here with /v1), REPLICATE_API_TOKEN and
SSL_CERT_FILE set.
"""

import inspect
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import replicate
from replicate import APIStatusError, Replicate

URL = os.environ["REPLICATE_BASE_URL"].removesuffix("/v1")
LLAMA, SCHNELL, SDXL = (
    "meta/meta-llama-3-70b-instruct",
    "black-forest-labs/flux-schnell",
    "stability-ai/sdxl",
)
client = Replicate(max_retries=0)
MODEL = {"model_owner": "black-forest-labs", "model_name": "flux-schnell"}
OLDER = {"model_owner": "stability-ai", "model_name": "sdxl"}
DEPLOYMENT = {"deployment_owner": "sandbox", "deployment_name": "image"}
PROMPT = {"prompt": "a boat"}
NO_METHODS = {
    "close", "copy", "with_options", "is_closed", "platform_headers", "request", "get", "post",
    "put", "patch", "delete", "query", "get_api_list",
}  # fmt: skip
"""Of the client itself: how requests are sent, not what can be asked for."""


def is_refused(call: Callable[[], Any]) -> bool:
    """Whether the sandbox says that it has not got this."""
    try:
        call()
    except APIStatusError as error:
        return error.status_code == 405
    return False


def download() -> bool:
    """A file by its signed link, which only the owner of a file can make."""
    file = client.files.create(content=b"hello", filename="a.txt", type="text/plain")
    token = {"Authorization": f"Bearer {os.environ['REPLICATE_API_TOKEN']}"}
    link = httpx.get(f"{URL}/sandbox/files/{file.id}/link", headers=token).json()["url"]
    query = parse_qs(urlsplit(link).query)
    signed = {name: query[name][0] for name in ("owner", "signature")}
    content = client.files.download(file_id=file.id, expiry=int(query["expiry"][0]), **signed)
    return content.read() == b"hello"


def files_left() -> bool:
    """Deleted is gone."""
    file = client.files.create(content=b"x")
    client.files.delete(file_id=file.id)
    return file.id not in [each.id for each in client.files.list()]


def cancelled() -> bool:
    hanging = client.predictions.create(version=LLAMA, input={"prompt": "x [[hang]]"})
    return client.predictions.cancel(prediction_id=hanging.id).status == "canceled"


def listed() -> bool:
    """Every page of the list, with its filters."""
    prediction = client.predictions.create(version=LLAMA, input=PROMPT)
    return prediction.id in [
        each.id for each in client.predictions.list(created_after=prediction.created_at)
    ]


def waited() -> Any:
    prediction = client.predictions.create(version=SCHNELL, input=PROMPT, cancel_after="1m")
    return client.predictions.wait(prediction.id)


def used() -> bool:
    """`use` downloads files, and joins the pieces of a text."""
    draw, write = replicate.use(SCHNELL), replicate.use(LLAMA)
    picture = Path(draw(prompt="a boat")[0]).read_bytes()
    return len(picture) > 100 and str(write(prompt="x")).startswith("[sandbox ")


CASES: dict[str, Callable[[], Any]] = {
    "account.get": lambda: client.account.get().username == "sandbox",
    "collections.get": lambda: client.collections.get(collection_slug="text-to-image").models,
    "collections.list": lambda: len(list(client.collections.list())) > 3,
    "deployments.create": lambda: is_refused(
        lambda: client.deployments.create(
            hardware="cpu", max_instances=1, min_instances=0, model=SDXL, name="x", version="x"
        )
    ),
    "deployments.delete": lambda: is_refused(lambda: client.deployments.delete(**DEPLOYMENT)),
    "deployments.get": lambda: client.deployments.get(**DEPLOYMENT).current_release,
    "deployments.list": lambda: len(list(client.deployments.list())) == 4,
    "deployments.predictions.create": lambda: (
        client.deployments.predictions.create(**DEPLOYMENT, input=PROMPT, prefer="wait").output
    ),
    "deployments.update": lambda: is_refused(lambda: client.deployments.update(**DEPLOYMENT)),
    "files.create": lambda: client.files.create(content=b"x", metadata={"order": 7}).metadata,
    "files.delete": files_left,
    "files.download": download,
    "files.get": lambda: client.files.get(file_id=client.files.create(content=b"xy").id).size == 2,
    "files.list": lambda: len(list(client.files.list())) > 0,
    "hardware.list": lambda: "cpu" in [each.sku for each in client.hardware.list()],
    "models.create": lambda: is_refused(
        lambda: client.models.create(hardware="cpu", name="x", owner="x", visibility="private")
    ),
    "models.delete": lambda: is_refused(lambda: client.models.delete(**MODEL)),
    "models.examples.list": lambda: next(iter(client.models.examples.list(**MODEL))).output,
    "models.get": lambda: client.models.get(**MODEL).is_official,
    "models.list": lambda: len({each.name for each in client.models.list()}) > 100,
    "models.predictions.create": lambda: (
        client.models.predictions.create(**MODEL, input=PROMPT, prefer="wait").output
    ),
    "models.readme.get": lambda: client.models.readme.get(**MODEL).startswith("# "),
    "models.search": lambda: next(iter(client.models.search(body="flux schnell"))).name,
    "models.update": lambda: is_refused(lambda: client.models.update(**MODEL, description="x")),
    "models.versions.delete": lambda: is_refused(
        lambda: client.models.versions.delete(**OLDER, version_id="x")
    ),
    "models.versions.get": lambda: (
        client.models.versions.get(
            **OLDER, version_id=list(client.models.versions.list(**OLDER))[-1].id
        ).openapi_schema
    ),
    "models.versions.list": lambda: len(list(client.models.versions.list(**OLDER))) == 4,
    "predictions.cancel": cancelled,
    "predictions.create": lambda: (
        client.predictions.create(version=LLAMA, input=PROMPT, prefer="wait=5").output
    ),
    "predictions.get": lambda: client.predictions.get(prediction_id=waited().id).output,
    "predictions.list": listed,
    "predictions.wait": lambda: waited().status == "succeeded",
    "run": lambda: client.run(SCHNELL, input=PROMPT)[0].url.startswith("https://"),
    "search": lambda: client.search(query="flux schnell").models[0].model.name,
    "stream": lambda: "".join(client.stream(LLAMA, input=PROMPT)).startswith("[sandbox "),
    "trainings.cancel": lambda: is_refused(lambda: client.trainings.cancel(training_id="x")),
    "trainings.create": lambda: is_refused(
        lambda: client.trainings.create(**OLDER, version_id="x", destination="a/b", input={})
    ),
    "trainings.get": lambda: is_refused(lambda: client.trainings.get(training_id="x")),
    "trainings.list": lambda: is_refused(client.trainings.list),
    "use": used,
    "webhooks.default.secret.get": lambda: client.webhooks.default.secret.get().key[:6] == "whsec_",
}


def methods(resource: Any, prefix: str) -> Iterator[str]:
    """The names of all methods of a resource and of those below it."""
    for name in dir(type(resource)):
        if name.startswith(("_", "with_raw", "with_streaming")):
            continue
        member = getattr(resource, name)
        if callable(member) and not inspect.isclass(member):
            yield prefix + name
        elif hasattr(member, "_client"):
            yield from methods(member, f"{prefix}{name}.")


def main() -> None:
    methods_of_client = set(methods(client, "")) - NO_METHODS
    for name in sorted(methods_of_client ^ set(CASES)):
        print(json.dumps({"method": name, "error": "is not a method, or is not called"}))
    for name in sorted(methods_of_client & set(CASES)):
        try:
            error = None if CASES[name]() else "another answer"
        except Exception as failure:  # noqa: BLE001 - said, and judged by the test
            error = f"{type(failure).__name__}: {failure}"
        print(json.dumps({"method": name, "error": error}))


if __name__ == "__main__":
    main()
