"""Conversations: what each kind of language model is sent, and what the caller is told."""

import pytest

from mediagate_server.catalog.models.model import Model, ModelStatus
from mediagate_server.catalog.models.model_info import Capability, list_capabilities
from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import (
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    ToolNames,
    Value,
)
from mediagate_server.errors import InvalidRequest, ParameterUnsupported
from tests.catalog.builders import message, shipped_catalog

CATALOG = shipped_catalog()
CAT = MediaInput("https://example.com/cat.png")
DOG = MediaInput("https://example.com/dog.png")
BEGIN = "<|begin_of_text|>"


def header(role: str) -> str:
    """How a turn opens in Llama 3's format."""
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


TALK = (message("user", "Hi"), message("assistant", "Hello."), message("user", "Who are you?"))


def plan_text(model: str, **parameters: Value) -> Plan:
    """A text plan."""
    return CATALOG.plan(ModelRequest(Modality.TEXT, model, parameters))


def fates(plan_text: Plan) -> dict[str, ParameterHandling]:
    """Handling by parameter."""
    return {line.parameter: line.handling for line in plan_text.report}


def rendered(plan_text: Plan) -> str:
    """What Llama 3 reads in the end, whichever way the wrapper fills its template."""
    template, prompt = plan_text.input["prompt_template"], plan_text.input["prompt"]
    replaced: str = template.replace("{prompt}", prompt)
    assert replaced == template.format(prompt=prompt), "both ways of filling give the same"
    return replaced


def test_a_prompt_is_one_turn_of_llama_3() -> None:
    """The model gets its chat format even for a bare prompt."""
    plan = plan_text("llama-70b", prompt="Hi {there}")
    assert plan.input["prompt"] == "Hi {there}"
    assert rendered(plan) == (f"{BEGIN}{header('user')}Hi {{there}}<|eot_id|>{header('assistant')}")
    assert fates(plan) == {"prompt": ParameterHandling.HONOURED}


@pytest.mark.parametrize("system", ["Be brief.", 'Answer as {"json": true}', "{prompt}"])
def test_llama_3_gets_its_system_prompt_in_its_format(system: str) -> None:
    """EMULATED, and safe for braces, which a template would read as its own."""
    plan = plan_text("llama-8b", prompt="Hi", system_prompt=system)
    assert rendered(plan) == (
        f"{BEGIN}{header('system')}{system}<|eot_id|>"
        f"{header('user')}Hi<|eot_id|>{header('assistant')}"
    )
    assert fates(plan) == {
        "prompt": ParameterHandling.HONOURED,
        "system_prompt": ParameterHandling.EMULATED,
    }


def test_llama_3_gets_a_conversation_turn_by_turn() -> None:
    """System messages lead, after the system prompt that was set."""
    plan = plan_text("llama-70b", messages=(message("system", "B"), *TALK), system_prompt="A")
    assert rendered(plan) == (
        f"{BEGIN}{header('system')}A\n\nB<|eot_id|>"
        f"{header('user')}Hi<|eot_id|>"
        f"{header('assistant')}Hello.<|eot_id|>"
        f"{header('user')}Who are you?<|eot_id|>{header('assistant')}"
    )
    assert plan.input["prompt"] == "Who are you?"
    assert fates(plan) == {
        "messages": ParameterHandling.EMULATED,
        "system_prompt": ParameterHandling.EMULATED,
    }


def test_messages_are_passed_as_messages() -> None:
    """A model that takes messages gets them as they are; its system input would be ignored."""
    plan = plan_text("openai/gpt-4o-mini", messages=TALK, system_prompt="Be brief.")
    assert plan.input["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who are you?"},
    ]
    assert not {"prompt", "system_prompt"} & set(plan.input)
    assert set(fates(plan).values()) == {ParameterHandling.HONOURED}
    bare = plan_text("openai/gpt-4o-mini", prompt="Hi", system_prompt="Be brief.")
    assert (bare.input["prompt"], bare.input["system_prompt"]) == ("Hi", "Be brief.")
    assert "messages" not in bare.input


def test_a_conversation_becomes_a_transcript_prompt() -> None:
    """Marked by role and closed by the cue to answer; told as EMULATED."""
    plan = plan_text("claude", messages=(message("system", "Be brief."), *TALK))
    assert plan.input["system_prompt"] == "Be brief."
    assert plan.input["prompt"] == (
        "User: Hi\n\nAssistant: Hello.\n\nUser: Who are you?\n\nAssistant:"
    )
    assert fates(plan) == {"messages": ParameterHandling.EMULATED}


def test_a_single_turn_is_a_prompt() -> None:
    """Nothing is put around it, so it is HONOURED."""
    plan = plan_text("claude", messages=(message("system", "Be brief."), message("user", "Hi")))
    assert (plan.input["prompt"], plan.input["system_prompt"]) == ("Hi", "Be brief.")
    assert fates(plan) == {"messages": ParameterHandling.HONOURED}


def test_images_go_to_their_input_completely() -> None:
    """One where the model takes one, all where it takes a list; one more is refused."""
    messages = (
        message("user", "What is this?", CAT),
        message("assistant", "?"),
        message("user", DOG),
    )
    plan = plan_text("claude", messages=(*messages[:2], message("user", "And now?")))
    assert plan.input["image"] == CAT.uri
    assert plan.input["prompt"] == (
        "User: What is this?[image]\n\nAssistant: ?\n\nUser: And now?\n\nAssistant:"
    )
    assert fates(plan) == {"messages": ParameterHandling.EMULATED}
    with pytest.raises(ParameterUnsupported) as refused:
        plan_text("claude", messages=messages)
    assert [violation.field for violation in refused.value.failure.violations] == [
        "messages[2].parts[0].image"
    ]
    both = plan_text("openai/gpt-4o-mini", messages=messages)
    assert both.input["image_input"] == [CAT.uri, DOG.uri]
    assert "messages" not in both.input
    assert fates(both) == {"messages": ParameterHandling.EMULATED}


TEXTS = [model for model in CATALOG.models(Modality.TEXT) if model.status is ModelStatus.LIVE]


@pytest.mark.parametrize("model", TEXTS, ids=lambda model: model.slug)
def test_an_image_reaches_vision_models_only(model: Model) -> None:
    """By the capability that is shown: its input holds the picture, or it is refused."""
    messages = (message("user", "What is this?", CAT),)
    if Capability.VISION not in list_capabilities(model):
        with pytest.raises(ParameterUnsupported):
            plan_text(model.slug, messages=messages)
        return
    assert model.chat is not None
    sent = plan_text(model.slug, messages=messages).input[model.chat.images]
    assert sent in (CAT.uri, [CAT.uri])


def test_a_model_without_vision_refuses_images() -> None:
    """Every picture is named; an answer that never saw them would pass for one that did."""
    messages = (
        message("user", "What is this?", CAT),
        message("assistant", "?"),
        message("user", DOG),
    )
    with pytest.raises(ParameterUnsupported) as refused:
        plan_text("llama-70b", messages=messages)
    assert [violation.field for violation in refused.value.failure.violations] == [
        "messages[0].parts[1].image",
        "messages[2].parts[0].image",
    ]


def test_tool_calls_are_refused() -> None:
    """Neither by tools nor by turns that come of them."""
    call = Message("assistant", ("",), tool_calls=1)
    for parameters, fields in (
        (
            {"messages": (message("user", "Hi"), call, message("tool", "5"))},
            ["[1].tool_calls", "[2].role"],
        ),
        ({"prompt": "Hi", "tools": ToolNames(("add",))}, ["tools"]),
    ):
        for model in ("llama-70b", "claude", "openai/gpt-4o-mini"):
            with pytest.raises(ParameterUnsupported) as refused:
                plan_text(model, **parameters)
            named = [violation.field for violation in refused.value.failure.violations]
            assert [field.removeprefix("messages") for field in named] == fields


def test_a_conversation_of_instructions_alone_is_refused() -> None:
    """Nothing but instructions is refused before spending."""
    with pytest.raises(InvalidRequest) as refused:
        plan_text("claude", messages=(message("system", "Be brief."),))
    assert refused.value.failure.violations[0].field == "messages"


def test_later_system_messages_keep_their_position() -> None:
    """A system message in the middle stays where it was said."""
    middle = (message("user", "Hi"), message("system", "Now in French."), message("user", "Again"))
    assert "System: Now in French." in plan_text("claude", messages=middle).input["prompt"]
    turn = f"{header('system')}Now in French.<|eot_id|>"
    assert turn in rendered(plan_text("llama-70b", messages=middle))


def test_the_estimate_covers_the_rendered_prompt() -> None:
    """The estimate grows by what is really sent, template and turns included."""
    short = plan_text("llama-70b", prompt="x").estimate.maximum
    long = plan_text("llama-70b", prompt="x" * 1000).estimate.maximum
    assert short is not None
    assert long is not None
    assert long - short == 999 * 650, "a byte more is at most a token more"
    wide = plan_text("llama-70b", prompt="é" * 1000).estimate.maximum
    assert wide is not None
    assert wide - long == 1000 * 650, "and a wide letter is two bytes"
