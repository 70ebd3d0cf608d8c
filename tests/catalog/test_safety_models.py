"""What a safety model is shown, and what is said of the rest."""

from collections.abc import Mapping

import pytest

from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import MediaInput, Message, Modality, ModelRequest, Value
from mediagate_server.errors import InvalidRequest, MaxCostExceeded, ParameterUnsupported
from tests.catalog.builders import message, shipped_catalog

CATALOG = shipped_catalog()
PICTURE = MediaInput("https://example.com/a.png")


def plan_check(parameters: Mapping[str, Value], **more: object) -> Plan:
    """The plan of the default safety model."""
    return CATALOG.plan(ModelRequest(Modality.SAFETY, "", parameters, **more))  # type: ignore[arg-type]


def handlings(plan: Plan) -> dict[str, ParameterHandling]:
    """What became of each parameter."""
    return {line.parameter: line.handling for line in plan.report}


def test_the_users_turn_is_judged_by_default() -> None:
    """Nothing of the model's own default texts is judged instead."""
    assert plan_check({"content": "Hi"}).input == {"prompt": "Hi"}
    assert plan_check({"content": "Hi", "role": "user"}).input == {"prompt": "Hi"}
    assert plan_check({"content": "Yo", "role": "assistant"}).input == {
        "prompt": "",
        "assistant": "Yo",
    }
    plan = plan_check({"content": "Yo", "role": "assistant", "context": "Hi"})
    assert plan.input == {"prompt": "Hi", "assistant": "Yo"}
    assert set(handlings(plan).values()) == {ParameterHandling.HONOURED}


def test_context_of_a_users_turn_is_dropped_and_reported() -> None:
    """The model takes no more than one exchange."""
    plan = plan_check({"content": "Hi", "context": "before"})
    assert plan.input == {"prompt": "Hi"}
    assert handlings(plan)["context"] is ParameterHandling.DROPPED
    with pytest.raises(ParameterUnsupported):
        plan_check({"content": "Hi", "context": "before"}, strict=True)


@pytest.mark.parametrize(
    ("turns", "sent", "handling"),
    [
        ([message("user", "a", "b")], {"prompt": "ab"}, ParameterHandling.HONOURED),
        (
            [message("user", "a"), message("assistant", "b")],
            {"prompt": "a", "assistant": "b"},
            ParameterHandling.HONOURED,
        ),
        ([message("assistant", "b")], {"prompt": "", "assistant": "b"}, ParameterHandling.HONOURED),
        (
            [message("system", "s"), message("user", "a"), message("assistant", "b")],
            {"prompt": "a", "assistant": "b"},
            ParameterHandling.ADJUSTED,
        ),
        (
            [message("user", "a"), message("assistant", "b"), message("user", "c")],
            {"prompt": "c"},
            ParameterHandling.ADJUSTED,
        ),
        (
            [message("user", PICTURE), message("user", "c")],
            {"prompt": "c"},
            ParameterHandling.ADJUSTED,
        ),
    ],
)
def test_the_last_turn_of_a_conversation_is_judged(
    turns: list[Message], sent: dict[str, str], handling: ParameterHandling
) -> None:
    """With the user's turn that it answers; what else there was is told as left out."""
    plan = plan_check({"messages": tuple(turns)})
    assert plan.input == sent
    assert handlings(plan)["messages"] is handling


@pytest.mark.parametrize(
    ("parameters", "error", "field"),
    [
        ({"content": " "}, InvalidRequest, "content"),
        ({"messages": (message("system", "s"),)}, InvalidRequest, "messages[0].role"),
        (
            {"messages": (message("user", "a"), message("tool", "s"))},
            InvalidRequest,
            "messages[1].role",
        ),
        ({"messages": (message("user", " "),)}, InvalidRequest, "messages[0].parts"),
        (
            {"messages": (message("user", "a", PICTURE),)},
            ParameterUnsupported,
            "messages[0].parts[1].image",
        ),
        (
            {"messages": (message("user", "a", PICTURE), message("assistant", "b"))},
            ParameterUnsupported,
            "messages[0].parts[1].image",
        ),
    ],
)
def test_inputs_that_cannot_be_judged_are_refused(
    parameters: Mapping[str, Value], error: type[InvalidRequest], field: str
) -> None:
    """A verdict on half of a turn would be none; the field is named."""
    with pytest.raises(error) as refused:
        plan_check(parameters)
    assert [violation.field for violation in refused.value.failure.violations] == [field]
    assert type(refused.value) is error


def test_the_cost_of_a_check_is_bounded() -> None:
    """By the time that it may run."""
    plan = plan_check({"content": "Hi"})
    assert plan.estimate.low == 0
    assert plan.estimate.maximum == 60 * 975_000
    with pytest.raises(MaxCostExceeded):
        plan_check({"content": "Hi"}, max_cost_nanos=60 * 975_000 - 1)
