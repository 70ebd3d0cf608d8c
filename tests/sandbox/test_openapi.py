"""Answers fit an OpenAPI document of Replicate's, if MEDIAGATE_TEST_OPENAPI names one.

The document is not part of this project; without it these tests are not collected.
"""

from __future__ import annotations

import functools
import json
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .caller import LLAMA, SCHNELL, Caller

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@pytest.fixture(scope="module")
def document() -> Any:
    """The OpenAPI document."""
    return json.loads(Path(os.environ["MEDIAGATE_TEST_OPENAPI"]).read_text("utf-8"))


def misfits(document: Any, schema: Any, value: Any, at: str = "") -> Iterator[str]:
    """Where a value does not fit its schema."""
    if "$ref" in schema:
        schema = functools.reduce(operator.getitem, schema["$ref"].split("/")[1:], document)
    if value is None:
        if "type" in schema and not schema.get("nullable"):
            yield f"{at}: null"
        return
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        yield f"{at}: {type(value).__name__}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value}"
    if isinstance(value, dict):
        yield from (f"{at}: no {name}" for name in schema.get("required", ()) if name not in value)
    for name, part, each in parts(schema, value):
        yield from misfits(document, part, each, f"{at}/{name}")


def parts(schema: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, schema and value of each part that the schema describes."""
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name in value:
                yield name, part, value[name]
    if isinstance(value, list) and "items" in schema:
        yield from ((str(at), schema["items"], each) for at, each in enumerate(value))


async def test_answers_fit(caller: Caller, document: Any) -> None:
    """Every GET that the document describes, and creates at every stage of a prediction."""
    created = [
        await caller.created(LLAMA, {"prompt": "x"}),
        await caller.created(SCHNELL, {"prompt": "x"}, Prefer="wait", Cancel_After="1m"),
        await caller.ran(SCHNELL, {"prompt": "x [[fail=no]]"}),
    ]
    prediction = document["components"]["schemas"]["schemas_prediction_response"]
    for each in created:
        assert list(misfits(document, prediction, each)) == []
    for path, place in (
        ("/predictions", "/predictions"),
        ("/predictions/{prediction_id}", f"/predictions/{created[0]['id']}"),
        ("/models", "/models"),
        ("/models/{model_owner}/{model_name}", f"/models/{SCHNELL}"),
        ("/models/{model_owner}/{model_name}/versions", f"/models/{SCHNELL}/versions"),
        ("/deployments/{deployment_owner}/{deployment_name}", "/deployments/sandbox/text"),
        ("/account", "/account"),
        ("/hardware", "/hardware"),
    ):
        success = document["paths"][path]["get"]["responses"]["200"]
        schema = success["content"]["application/json"]["schema"]
        answer = (await caller.get("/v1" + place)).json
        assert list(misfits(document, schema, answer, path)) == []
