"""JSON that is asked for in words: what the model is told, and what is refused before."""

import json
from typing import Any

import pytest

from mediagate_server.catalog.models.model import ModelStatus, OutputKind
from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import Modality, ModelRequest, ResponseFormat, Value
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog()
MODELS = [
    model for model in CATALOG.models(Modality.TEXT) if model.status is not ModelStatus.RETIRED
]
SCHEMA = {"type": "object", "properties": {"capital": {"type": "string"}}}
BY_SCHEMA = ResponseFormat("json_schema", SCHEMA)


def plan_text(model: str, **parameters: Value) -> Plan:
    """A text model's plan, strict: what is emulated gives what was asked for."""
    return CATALOG.plan(ModelRequest(Modality.TEXT, model, parameters, strict=True))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.slug)
@pytest.mark.parametrize(
    "form", [BY_SCHEMA, ResponseFormat("json", {})], ids=lambda form: form.kind
)
def test_the_schema_is_in_every_models_instructions(model: Any, form: ResponseFormat) -> None:
    """In its instructions, with the whole schema; told as EMULATED; not streamed."""
    plan = plan_text(model.slug, prompt="Hi", response_format=form)
    estimate = json.dumps(plan.input, ensure_ascii=False)
    assert "JSON value" in estimate
    assert ("JSON Schema" in estimate) == (form.kind == "json_schema")
    (line,) = [line for line in plan.report if line.parameter == "response_format"]
    assert (line.handling, line.requested) == (ParameterHandling.EMULATED, form.kind)
    assert [outcome.parameter for outcome in plan.report] == ["prompt", "response_format"]
    assert plan.output.kind is OutputKind.JSON_TEXT
    assert json.loads(plan.output.field) == form.schema
    assert not plan.streams


def test_the_callers_instructions_come_first() -> None:
    """And are reported as ever."""
    plan = plan_text("claude", prompt="Hi", system_prompt="Be brief.", response_format=BY_SCHEMA)
    system = plan.input["system_prompt"]
    assert system.startswith("Be brief.\n\n")
    assert json.dumps(SCHEMA) in system
    assert {line.parameter for line in plan.report} == {
        "prompt",
        "system_prompt",
        "response_format",
    }


def test_the_text_format_changes_nothing() -> None:
    """Asking for what is there anyway changes nothing."""
    plan = plan_text("claude", prompt="Hi", response_format=ResponseFormat("text", {}))
    assert plan.input == plan_text("claude", prompt="Hi").input
    assert plan.streams
    (line,) = [line for line in plan.report if line.parameter == "response_format"]
    assert line.handling is ParameterHandling.HONOURED


def test_the_schema_counts_in_the_estimate() -> None:
    """It is a part of the prompt."""
    bare = plan_text("claude", prompt="Hi").estimate.maximum
    estimate = plan_text("claude", prompt="Hi", response_format=BY_SCHEMA).estimate.maximum
    assert bare is not None
    assert estimate is not None
    assert estimate > bare
