"""Inputs of a model by its own names: checked against its schema, accounted for, never behind."""

from typing import Any

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import (
    Fallback,
    FallbackMode,
    MediaInput,
    Modality,
    ModelRequest,
    Value,
)
from mediagate_server.errors import InvalidRequest
from mediagate_server.structs import replace
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog()
IMAGE, TEXT, VIDEO, AUDIO = Modality.IMAGE, Modality.TEXT, Modality.VIDEO, Modality.AUDIO


def model_request(
    modality: Modality, model: str, own: dict[str, Any], **parameters: Value
) -> ModelRequest:
    """A request with inputs of the model's own."""
    words: dict[str, Value] = {} if "text" in parameters else {"prompt": "x"}
    return ModelRequest(modality, model, {**words, **parameters}, model_parameters=own)


def plan_for(modality: Modality, model: str, own: dict[str, Any], **parameters: Value) -> Plan:
    """Its plan."""
    return CATALOG.plan(model_request(modality, model, own, **parameters))


def test_model_parameters_are_sent_and_reported() -> None:
    """Each has a line behind those of the fields; words that people wrote are not in it."""
    plan = plan_for(IMAGE, "sdxl", {"scheduler": "DDIM", "refine_steps": 5}, steps=20)
    assert plan.input["scheduler"] == "DDIM"
    assert plan.input["refine_steps"] == 5
    assert [(line.parameter, line.handling, line.sent) for line in plan.report[2:]] == [
        ("options.model_parameters.scheduler", ParameterHandling.HONOURED, "DDIM"),
        ("options.model_parameters.refine_steps", ParameterHandling.HONOURED, "5"),
    ]
    spoken = plan_for(AUDIO, "qwen3-tts", {"style_instruction": "as to a child"}, text="Hello")
    assert spoken.report[-1].sent == ""
    assert (
        CATALOG.plan(replace(model_request(IMAGE, "sdxl", {"scheduler": "DDIM"}), strict=True))
        .report[-1]
        .handling
        is ParameterHandling.HONOURED
    )


def test_model_parameters_count_in_the_estimate() -> None:
    """A draft is a quarter of the price; frames in between cost extra."""
    film, draft = plan_for(VIDEO, "p-video", {}), plan_for(VIDEO, "p-video", {"draft": True})
    assert film.estimate.maximum == 100_000_000
    assert draft.estimate.maximum == 25_000_000
    frame = MediaInput("https://example.com/a.png")
    smooth = plan_for(VIDEO, "wan-2.2-i2v-fast", {"interpolate_output": True}, first_frame=frame)
    assert smooth.estimate.maximum == 65_000_000


@pytest.mark.parametrize(
    ("modality", "model", "own", "words"),
    [
        (IMAGE, "sdxl", {"schedular": "DDIM"}, "has no such input"),
        (IMAGE, "recraft-v4", {"style": "any"}, "has no such input that is known here"),
        (IMAGE, "sdxl", {"scheduler": "magic"}, "is not one of the allowed values"),
        (IMAGE, "sdxl", {"refine_steps": "five"}, "is not of type integer"),
        (IMAGE, "sdxl", {"refine_steps": 1.5}, "is not of type integer"),
        (IMAGE, "sdxl", {"refine_steps": None}, "is not of type integer"),
        (IMAGE, "sdxl", {"high_noise_frac": 2}, "is over 1"),
        (IMAGE, "sdxl", {"num_inference_steps": 20}, "is what 'steps' sets: use that field"),
        (IMAGE, "sdxl", {"prompt": "y"}, "is what 'prompt' sets: use that field"),
        (TEXT, "claude", {"system_prompt": "y"}, "is what 'system_prompt' sets: use that field"),
        (TEXT, "llama-70b", {"prompt_template": "{prompt}"}, "is what 'messages' sets"),
        (IMAGE, "sdxl", {"disable_safety_checker": True}, "is not a caller's to set"),
        (IMAGE, "flux-pro", {"safety_tolerance": 6}, "is not a caller's to set"),
        (IMAGE, "seedream-4", {"max_images": 15}, "is not a caller's to set"),
        (IMAGE, "nano-banana-pro", {"allow_fallback_model": True}, "is not a caller's to set"),
        (IMAGE, "gpt-image-2", {"openai_api_key": "sk-1"}, "has no such input"),
        (
            IMAGE,
            "ideogram",
            {"style_reference_images": ["http://example.com/a.png"]},
            "must be a link by https",
        ),
    ],
)
def test_invalid_model_parameters_are_named(
    modality: Modality, model: str, own: dict[str, Any], words: str
) -> None:
    """The field by its path, what is wrong in words, and nothing is planned."""
    with pytest.raises(InvalidRequest) as refused:
        plan_for(modality, model, own)
    [violation] = refused.value.failure.violations
    [name] = own
    assert violation.field == f"options.model_parameters.{name}"
    assert words in violation.description
    assert "sk-1" not in str(refused.value)


def test_model_parameters_do_not_contradict_fields() -> None:
    """A continuation is one also where the caller says by its other name that it is none."""
    sound = MediaInput("https://example.com/a.wav")
    with pytest.raises(InvalidRequest, match="another parameter needs it"):
        plan_for(AUDIO, "musicgen", {"continuation": False}, continue_from=sound)
    plan = plan_for(AUDIO, "musicgen", {"continuation": True}, continue_from=sound)
    assert plan.input["continuation"] is True


def test_model_parameters_are_dropped_on_fallback() -> None:
    """Dropped there and told, or left out of the chain under strict parameters."""
    request = model_request(IMAGE, "flux-pro", {"prompt_upsampling": True})
    request = replace(request, fallback=Fallback(FallbackMode.LIST, ("sdxl",)))
    _, link = CATALOG.plan_with_fallbacks(request).plans
    assert link.report[-1].parameter == "options.model_parameters.prompt_upsampling"
    assert link.report[-1].handling is ParameterHandling.DROPPED
    assert "prompt_upsampling" not in link.input
    strict = CATALOG.plan_with_fallbacks(replace(request, strict=True))
    assert [each.reason for each in strict.skipped] == [
        "cannot take options.model_parameters, which are of the model asked for"
    ]


def test_model_parameters_require_a_named_model() -> None:
    """Nobody knows before whose inputs they would be."""
    request = replace(model_request(IMAGE, "", {"scheduler": "DDIM"}), quality="economy")
    with pytest.raises(InvalidRequest, match=r"options\.model: must be set"):
        CATALOG.plan(request)


def test_more_images_than_one_run_makes_are_several_runs() -> None:
    """Each with a seed of its own, and the estimate is of all of them."""
    catalog = shipped_catalog(generate_seed=lambda: 7)
    request = ModelRequest(IMAGE, "flux-pro", {"prompt": "x", "count": 3})
    plan = catalog.plan(request)
    assert (plan.runs, plan.output_count) == (3, 1)
    line = plan.report[1]
    assert (line.handling, line.requested, line.sent) == (ParameterHandling.EMULATED, "3", "3")
    assert line.reason == "by 3 runs, each with a seed of its own"
    assert plan.estimate.maximum == 40_000_000
    assert plan.total_estimate.maximum == 120_000_000
    assert [plan.run(index).seed for index in range(3)] == [7, 8, 9]
    assert [plan.run(index).input["seed"] for index in range(3)] == [7, 8, 9]
    assert catalog.plan(replace(request, strict=True)).runs == 3
    dev = catalog.plan(ModelRequest(IMAGE, "flux-dev", {"prompt": "x", "count": 6}))
    assert (dev.runs, dev.output_count) == (6, 1)
    assert "num_outputs" not in dev.input
    full_plan = catalog.plan(ModelRequest(IMAGE, "flux-dev", {"prompt": "x", "count": 4}))
    assert (full_plan.runs, full_plan.output_count, full_plan.input["num_outputs"]) == (1, 4, 4)


def test_seeds_wrap_around() -> None:
    """And a model without seeds makes each run as it likes."""
    catalog = shipped_catalog()
    request = ModelRequest(IMAGE, "ideogram", {"prompt": "x", "count": 3, "seed": 2**31 - 2})
    plan = catalog.plan(request)
    assert [plan.run(index).seed for index in range(3)] == [2**31 - 2, 2**31 - 1, 0]
    plain = catalog.plan(ModelRequest(IMAGE, "nano-banana", {"prompt": "x", "count": 2}))
    assert plain.run(1) == plain


@pytest.mark.parametrize(
    ("model", "name", "weaker", "stricter"),
    [
        ("sdxl", "disable_safety_checker", True, False),
        ("flux-pro", "safety_tolerance", 3, 1),
        ("gpt-image-2", "moderation", "low", "auto"),
        ("p-video", "disable_safety_filter", True, False),
    ],
)
def test_only_the_operator_can_weaken_safety_checks(
    model: str, name: str, weaker: Any, stricter: Any
) -> None:
    """Nobody else's; what is as strict as the default, or stricter, is anybody's."""
    catalog_model = CATALOG.find_by_name(model)
    assert catalog_model is not None
    modality = catalog_model.modality
    with pytest.raises(InvalidRequest, match="is not a caller's to set"):
        plan_for(modality, model, {name: weaker})
    assert plan_for(modality, model, {name: stricter}).input[name] == stricter
    open_catalog = Catalog(CATALOG.models(), allow_weaker_safety=True)
    request = model_request(modality, model, {name: weaker})
    if not catalog_model.inputs[name].problem(weaker):
        assert open_catalog.plan(request).input[name] == weaker


def test_the_operators_permission_covers_only_safety_inputs() -> None:
    """What changes who is paid, or what is made, stays where it is."""
    catalog = Catalog(CATALOG.models(), allow_weaker_safety=True)
    for model, own in (("seedream-4", {"max_images": 15}), ("gpt-image-2", {"user_id": "x"})):
        with pytest.raises(InvalidRequest, match="is not a caller's to set"):
            catalog.plan(model_request(IMAGE, model, own))
