"""What is still to be sent, kept for the next process: letter for letter, cent for cent."""

from decimal import Decimal
from types import MappingProxyType

import pytest

from mediagate_server.catalog.models.model import ModelStatus
from mediagate_server.catalog.parameters.rule import ParameterHandling, ParameterReport
from mediagate_server.catalog.pricing.prices import Estimate
from mediagate_server.catalog.request import Modality, ModelRequest, Value
from mediagate_server.errors import MediagateError
from mediagate_server.generations.execution import execution_plan
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.structs import replace
from tests.catalog.builders import shipped_catalog

PARAMETERS: dict[Modality, dict[str, Value]] = {
    Modality.TEXT: {"prompt": 'A é "fox"', "max_output_tokens": 20},
    Modality.IMAGE: {"prompt": "A fox", "count": 2},
    Modality.VIDEO: {"prompt": "A fox", "duration": 6.0},
    Modality.AUDIO: {"prompt": "A fox"},
    Modality.SAFETY: {"content": "A fox"},
}

BEFORE = (
    '{"lanes":[{"purpose":"generate","output_index":0,"plans":[{"modality":"video",'
    '"requested_model":"hailuo","slug":"minimax/hailuo-02","target":"minimax/hailuo-02",'
    '"input":{"prompt":"A é \\"fox\\"","duration":6,"resolution":"768p"},'
    '"report":[{"parameter":"duration","handling":"honoured","requested":"6","sent":"6",'
    '"reason":""}],"seed":null,"streams":false,'
    '"output":{"kind":"media","field":"","media_type":"video/mp4"},"output_count":1,'
    '"price":{"tiers":[{"rates":[{"metrics":["video_output_count"],"usd":"0.27","per":1}],'
    '"criteria":[{"metric":"resolution_target","equals":"768p","over":null,"up_to":null},'
    '{"metric":"video_output_duration_seconds","equals":null,"over":null,"up_to":"6"}]}],'
    '"as_of":"2026-09-09","source":"model page",'
    '"sent":{"video_output_duration_seconds":"6","resolution_target":"768p"},"assumed":false,'
    '"partial":false},"estimate":{"low":270000000,"expected":270000000,"maximum":270000000},'
    '"max_run":900,"usual_run":180,"substitution":null,"choice":{"reason":"the cheapest",'
    '"alternatives":[{"model":"a/b","estimate":{"low":null,"expected":null,"maximum":null},'
    '"reason":"costs more"}]},"runs":1,"seed_input":"","largest_seed":null}]}],'
    '"after_content_refusal":true}'
)
"""As the versions before structs wrote it."""


def test_every_plan_round_trips() -> None:
    """Of every model that can be called, with the tiers of its price."""
    catalog = shipped_catalog()
    read = 0
    for model in catalog.models():
        request = ModelRequest(model.modality, model.slug, PARAMETERS[model.modality])
        try:
            planned = ExecutionPlan.of(*catalog.plan_with_fallbacks(request).plans)
        except MediagateError:
            continue
        assert execution_plan.load_plan(execution_plan.dump_plan(planned)) == planned
        read += 1
    live = [model for model in catalog.models() if model.status is ModelStatus.LIVE]
    assert read > len(live) / 2


def test_plans_of_earlier_versions_round_trip() -> None:
    """An upgrade finds generations that wait."""
    planned = execution_plan.load_plan(BEFORE.encode())
    (plan,) = planned.chain
    assert planned.after_content_refusal
    assert plan.report == (ParameterReport("duration", ParameterHandling.HONOURED, "6", "6"),)
    assert plan.input == {"prompt": 'A é "fox"', "duration": 6, "resolution": "768p"}
    assert plan.price.sent == {
        "video_output_duration_seconds": Decimal(6),
        "resolution_target": "768p",
    }
    assert plan.choice is not None
    assert plan.choice.alternatives[0].estimate == Estimate(None, None, None)
    since = BEFORE.replace('"largest_seed":null', '"largest_seed":null,"token_limit":null')
    assert execution_plan.dump_plan(planned).decode() == since


def test_mappings_and_decimals_in_an_input_round_trip() -> None:
    """An input may hold what no JSON parser makes."""
    (plan,) = execution_plan.load_plan(BEFORE.encode()).chain
    given = MappingProxyType({"deep": MappingProxyType({"exact": Decimal("0.10")}), "many": (1, 2)})
    (read,) = execution_plan.load_plan(
        execution_plan.dump_plan(ExecutionPlan.of(replace(plan, input=given)))
    ).chain
    assert read.input == {"deep": {"exact": "0.10"}, "many": [1, 2]}


@pytest.mark.parametrize(
    "damage",
    [("{", ""), ('"lanes"', '"lines"'), ('"0.27"', '"-1"'), ('"video"', '"smell"'), ("180", '"x"')],
)
def test_a_damaged_plan_is_an_error(damage: tuple[str, str]) -> None:
    """Nothing is sent by half of a plan."""
    with pytest.raises(ValueError, match="stored"):
        execution_plan.load_plan(BEFORE.replace(*damage, 1).encode())
