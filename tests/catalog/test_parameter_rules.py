"""The rules one by one, on a catalog of their own, so that those no shipped model uses hold too."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.parameters.rule import ParameterReport
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import Lora, MediaInput, Modality, ModelRequest, Size, Value
from mediagate_server.errors import ParameterUnsupported
from tests.catalog.builders import read_models

HEAD = """
[[model]]
slug = "maker/{modality}"
modality = "{modality}"
vendor = "Maker"
kind = "official"
quality = "standard"
safety = "open"
inputs_from = "partly"
usual_run = 10
max_run = 60
output = {{ kind = "media" }}
price = {{ as_of = "", source = "", tiers = [] }}
{chat}
"""


def plan_with_rule(modality: str, inputs: str, mapping: str, **parameters: Value) -> Plan:
    """A plan for a model with just these inputs and rules."""
    chat = {"text": "chat = {}", "audio": 'makes = ["music"]'}.get(modality, "")
    text = HEAD.format(modality=modality, chat=chat)
    if modality == "text":
        inputs = 'prompt = { type = "string" }\n' + inputs
        parameters = {"prompt": "hi", **parameters}
    models = read_models("own.toml", f"{text}\n[model.inputs]\n{inputs}\n[model.map]\n{mapping}\n")
    kind = Modality(modality)
    return Catalog(models, defaults={}).plan(ModelRequest(kind, f"maker/{modality}", parameters))


def fate(plan_with_rule: Plan, name: str) -> tuple[str, str, str]:
    """What became of a parameter: handling, requested, sent."""
    line = next(line for line in plan_with_rule.report if line.parameter == name)
    return line.handling.value, line.requested, line.sent


RANGE = 'steps = { type = "integer", min = 1, max = 50 }'


@pytest.mark.parametrize(
    ("spec", "requested", "sent", "handling"),
    [
        ('{ type = "number", min = 0, max = 10 }', 3.5, 3.5, "honoured"),
        ('{ type = "number", min = 0, max = 10 }', 12.0, 10, "adjusted"),
        ('{ type = "number", min = 0.5 }', 0.1, 0.5, "adjusted"),
        ('{ type = "integer" }', 3.0, 3, "honoured"),
        ('{ type = "integer" }', 3.4, 3, "adjusted"),
        ('{ type = "number", enum = [1, 2.5, 5] }', 2.5, 2.5, "honoured"),
        ('{ type = "number", enum = [1, 3, 5] }', 4.0, 3, "adjusted"),
        ('{ type = "string", enum = ["1", "0.25"] }', 1.0, "1", "honoured"),
        ('{ type = "string", enum = ["0.5 MP", "2 MP"] }', 8.0, "2 MP", "adjusted"),
        ('{ type = "string" }', 7.0, "7", "honoured"),
    ],
)
def test_numbers_are_clamped_or_rounded_to_the_nearest(
    spec: str, requested: float, sent: Any, handling: str
) -> None:
    """Clamped, rounded, or the nearest of a list; of two equally near the lower."""
    plan = plan_with_rule(
        "image", f"cfg = {spec}", 'guidance_scale = "cfg"', guidance_scale=requested
    )
    assert plan.input == {"cfg": sent}
    assert type(plan.input["cfg"]) is type(sent)
    assert fate(plan, "guidance_scale")[0] == handling


@pytest.mark.parametrize(
    ("requested", "sent", "handling"),
    [
        ("high", "high", "honoured"),
        ("xhigh", "high", "adjusted"),
        ("none", "low", "adjusted"),
        ("medium", "low", "adjusted"),
        ("whatever", None, "dropped"),
    ],
)
def test_ordered_words_fall_to_the_nearest(requested: str, sent: str | None, handling: str) -> None:
    """Between low and high, medium goes down: the cheaper. A word without a place is dropped."""
    spec = 'effort = { type = "string", enum = ["high", "low"] }'
    plan = plan_with_rule("text", spec, 'reasoning_effort = "effort"', reasoning_effort=requested)
    assert plan.input.get("effort") == sent
    assert fate(plan, "reasoning_effort")[0] == handling


@pytest.mark.parametrize(
    ("requested", "sent", "handling"),
    [
        ("en", "English", "honoured"),
        ("EN-us", "English", "honoured"),
        ("zh-HK", "Cantonese", "honoured"),
        ("zh-TW", "Chinese", "honoured"),
        ("french", "French", "honoured"),
        ("tlh", None, "dropped"),
    ],
)
def test_choice_accepts_language_tags_and_model_names(
    requested: str, sent: str | None, handling: str
) -> None:
    """A tag, its language, or what the model itself calls it."""
    spec = 'speak = { type = "string", enum = ["English", "French", "Chinese", "Cantonese"] }'
    rule = (
        'language = { rule = "choice", to = "speak", '
        'words = { en = "English", zh = "Chinese", zh-HK = "Cantonese" } }'
    )
    plan = plan_with_rule("audio", spec, rule, language=requested)
    assert plan.input.get("speak") == sent
    assert fate(plan, "language")[0] == handling


def test_choice_may_map_to_another_type() -> None:
    """Thinking effort as a budget of tokens, with the switch that it needs."""
    inputs = 'think = { type = "boolean" }\nbudget = { type = "integer", min = 1024 }'
    rule = (
        'reasoning_effort = { rule = "choice", to = "budget", also = { think = true }, '
        "words = { low = 1024, high = 16000 } }"
    )
    plan = plan_with_rule("text", inputs, rule, reasoning_effort="xhigh")
    assert plan.input == {"prompt": "hi", "budget": 16000, "think": True}
    assert fate(plan, "reasoning_effort") == ("adjusted", "xhigh", "high")


def test_choice_passes_unlisted_names() -> None:
    """Where the model's names are not listed, a name is taken at its word."""
    rule = 'voice = { rule = "choice", to = "who", words = { calm = "Ann" } }'
    assert plan_with_rule("audio", 'who = { type = "string" }', rule, voice="Bob").input == {
        "who": "Bob"
    }
    assert plan_with_rule("audio", 'who = { type = "string" }', rule, voice="Calm").input == {
        "who": "Ann"
    }


@pytest.mark.parametrize(
    ("rule", "parameter", "value", "expected"),
    [
        ("6", "duration", 6.0, ("honoured", "6", "6")),
        ("6", "duration", 10.0, ("adjusted", "10", "6")),
        ('"720p"', "resolution", "720P", ("honoured", "720P", "720P")),
        ('"720p"', "resolution", "1080p", ("adjusted", "1080p", "720p")),
        ("false", "generate_audio", False, ("honoured", "false", "false")),
        ("false", "generate_audio", True, ("dropped", "true", "")),
    ],
)
def test_fixed_reports_what_the_model_always_does(
    rule: str, parameter: str, value: Value, expected: tuple[str, str, str]
) -> None:
    """Nothing is sent; what happens to be so is honoured."""
    mapping = f'{parameter} = {{ rule = "fixed", value = {rule} }}'
    plan = plan_with_rule("video", 'x = { type = "string" }', mapping, **{parameter: value})
    assert plan.input == {}
    assert fate(plan, parameter) == expected


@pytest.mark.parametrize(("share", "sent"), [(0.0, 1), (0.5, 128), (1.0, 255)])
def test_scaled_maps_a_fraction_to_the_range(share: float, sent: int) -> None:
    """Nothing is the least, all is the most."""
    plan = plan_with_rule(
        "video",
        'bucket = { type = "integer", min = 1, max = 255 }',
        'motion_strength = { rule = "scaled", to = "bucket" }',
        motion_strength=share,
    )
    assert plan.input == {"bucket": sent}
    assert fate(plan, "motion_strength")[0] == "honoured"


def test_joined_drops_values_with_the_separator() -> None:
    """A comma within a stop sequence cannot be told to the model."""
    rule = 'stop_sequences = { rule = "joined", to = "stop" }'
    spec = 'stop = { type = "string" }'
    full_plan = plan_with_rule("text", spec, rule, stop_sequences=("END", "\n\n"))
    assert full_plan.input["stop"] == "END,\n\n"
    assert fate(full_plan, "stop_sequences") == ("honoured", "", "")
    partly = plan_with_rule("text", spec, rule, stop_sequences=("END", "a,b"))
    assert partly.input["stop"] == "END"
    assert fate(partly, "stop_sequences")[0] == "adjusted"
    none = plan_with_rule("text", spec, rule, stop_sequences=("a,b",))
    assert "stop" not in none.input
    assert fate(none, "stop_sequences")[0] == "dropped"


LENGTHS = [
    ('{ type = "integer", enum = [4, 6, 8] }', 1, 6.0, 6, "honoured", "6"),
    ('{ type = "integer", enum = [4, 6, 8] }', 1, 4.1, 6, "adjusted", "6"),
    ('{ type = "integer", enum = [4, 6, 8] }', 1, 60.0, 8, "adjusted", "8"),
    ('{ type = "string", enum = ["10", "5"] }', 1, 5.0, "5", "honoured", "5"),
    ('{ type = "string", enum = ["10", "5"] }', 1, 5.5, "10", "adjusted", "10"),
    ('{ type = "integer", min = 2, max = 12 }', 1, 3.2, 4, "adjusted", "4"),
    ('{ type = "integer", min = 2, max = 12 }', 1, 0.5, 2, "adjusted", "2"),
    ('{ type = "integer", min = 2, max = 12 }', 1, 99.0, 12, "adjusted", "12"),
    ('{ type = "number", min = 1, max = 10 }', 1, 2.5, 2.5, "honoured", "2.5"),
    ('{ type = "integer", min = 5000, max = 300000 }', 1000, 10.1, 10100, "honoured", "10.1"),
    ('{ type = "integer", min = 5000, max = 300000 }', 1000, 1.0, 5000, "adjusted", "5"),
]


@pytest.mark.parametrize(("spec", "unit", "requested", "sent", "handling", "reported"), LENGTHS)
def test_durations_are_rounded_up_where_possible(
    spec: str, unit: int, requested: float, sent: Any, handling: str, reported: str
) -> None:
    """The shortest that is at least as long, else the longest; told in seconds."""
    rule = f'duration = {{ rule = "length", to = "len", per_second = {unit} }}'
    plan = plan_with_rule("video", f"len = {spec}", rule, duration=requested)
    assert plan.input == {"len": sent}
    assert fate(plan, "duration")[0] == handling
    assert fate(plan, "duration")[2] == reported


@pytest.mark.parametrize(
    ("parameters", "sent", "handling"),
    [
        ({"duration": 6.0}, {"n": 96}, "honoured"),
        ({"duration": 4.0, "fps": 24}, {"n": 96, "rate": 24}, "honoured"),
        ({"fps": 24, "duration": 4.01}, {"n": 97, "rate": 24}, "adjusted"),
        ({"duration": 9.0, "fps": 99}, {"n": 121, "rate": 30}, "adjusted"),
    ],
)
def test_frames_are_computed_at_the_sent_frame_rate(
    parameters: dict[str, Value], sent: dict[str, int], handling: str
) -> None:
    """In whatever order the two were set, and at the model's own rate where none was."""
    inputs = (
        'n = { type = "integer", min = 81, max = 121 }\n'
        'rate = { type = "integer", min = 5, max = 30, default = 16 }'
    )
    rules = 'duration = { rule = "frames", to = "n", fps = "rate" }\nfps = "rate"'
    plan = plan_with_rule("video", inputs, rules, **parameters)
    assert plan.input == sent
    assert fate(plan, "duration")[0] == handling


def lost(modality: str, inputs: str, mapping: str, **parameters: Value) -> list[str]:
    """The fields that a refusal names because they would not reach the model."""
    with pytest.raises(ParameterUnsupported) as refused:
        plan_with_rule(modality, inputs, mapping, **parameters)
    return [violation.field for violation in refused.value.failure.violations]


def test_media_are_sent_singly_or_as_a_list() -> None:
    """All of them, or none is paid for: each that is too many is named."""
    first, second, third = (MediaInput(f"https://example.com/{n}") for n in range(3))
    single = 'pic = { type = "uri" }'
    many = 'pics = { type = "uri[]" }'
    only = 'reference_images = { rule = "media", to = "pic" }'
    assert plan_with_rule("image", single, only, reference_images=(first,)).input == {
        "pic": first.uri
    }
    assert lost("image", single, only, reference_images=(first, second)) == ["reference_images[1]"]
    rule = 'reference_images = { rule = "media", to = "pics", at_most = 2 }'
    cut = lost("image", many, rule, reference_images=(first, second, third, third))
    assert cut == ["reference_images[2]", "reference_images[3]"]
    full_plan = plan_with_rule("image", many, rule, reference_images=(first, second))
    assert fate(full_plan, "reference_images") == ("honoured", "2", "2")
    listed = plan_with_rule("image", many, 'mask = { rule = "media", to = "pics" }', mask=first)
    assert listed.input == {"pics": [first.uri]}
    assert fate(listed, "mask") == ("honoured", "", "")


def test_one_adapter_with_a_scale_in_range() -> None:
    """Several are refused; a scale out of range is told."""
    inputs = 'w = { type = "string" }\ns = { type = "number", min = 0, max = 1 }'
    rule = 'loras = { rule = "adapter", to = "w", scale = "s" }'
    fits, loud = Lora("a", 0.5), Lora("b", 3.0)
    assert plan_with_rule("image", inputs, rule, loras=(fits,)).input == {"w": "a", "s": 0.5}
    assert plan_with_rule("image", inputs, rule, loras=(loud,)).input == {"w": "b", "s": 1}
    assert fate(plan_with_rule("image", inputs, rule, loras=(loud,)), "loras")[0] == "adjusted"
    assert lost("image", inputs, rule, loras=(fits, loud)) == ["loras[1]"]


def test_an_input_is_set_by_one_parameter() -> None:
    """The first rule of the file wins, whatever the order of the request; the other is refused."""
    inputs = 'sound = { type = "uri" }\ngo_on = { type = "boolean" }'
    rules = (
        'continue_from = { rule = "media", to = "sound", also = { go_on = true } }\n'
        'reference_audio = { rule = "media", to = "sound", also = { go_on = false } }'
    )
    a, b = MediaInput("https://example.com/a"), MediaInput("https://example.com/b")
    for both in (
        {"continue_from": a, "reference_audio": b},
        {"reference_audio": b, "continue_from": a},
    ):
        assert lost("audio", inputs, rules, **both) == ["reference_audio"]
    first = plan_with_rule("audio", inputs, rules, continue_from=a)
    assert first.input == {"sound": a.uri, "go_on": True}
    alone = plan_with_rule("audio", inputs, rules, reference_audio=b)
    assert alone.input == {"sound": b.uri, "go_on": False}


def test_a_parameters_prerequisites_must_be_set() -> None:
    """A strength without a picture means nothing to the model, so nothing is sent."""
    inputs = 'pic = { type = "uri" }\nhow = { type = "number" }'
    rules = (
        'strength = { rule = "direct", to = "how", needs = "pic" }\n'
        'reference_images = { rule = "media", to = "pic" }'
    )
    picture = (MediaInput("https://example.com/a"),)
    assert plan_with_rule("image", inputs, rules, strength=0.5).input == {}
    both = plan_with_rule("image", inputs, rules, strength=0.5, reference_images=picture)
    assert both.input == {"pic": picture[0].uri, "how": 0.5}


def test_a_side_effect_yields_to_explicit_parameters() -> None:
    """A dearer mode is not chosen against the caller's own word."""
    inputs = 'mode = { type = "string", enum = ["std", "pro"] }\nend = { type = "uri" }'
    rules = (
        'last_frame = { rule = "media", to = "end", also = { mode = "pro" }, why = "costs more" }\n'
        'resolution = { rule = "choice", to = "mode", words = { "720p" = "std", "1080p" = "pro" } }'
    )
    frame = MediaInput("https://example.com/a")
    alone = plan_with_rule("video", inputs, rules, last_frame=frame)
    assert alone.input == {"end": frame.uri, "mode": "pro"}
    assert alone.report == (
        ParameterReport("last_frame", alone.report[0].handling, reason="costs more"),
    )
    agreed = plan_with_rule("video", inputs, rules, last_frame=frame, resolution="1080p")
    assert agreed.input == alone.input
    against = lost("video", inputs, rules, last_frame=frame, resolution="720p")
    assert against == ["last_frame"]


@given(st.text(max_size=200))
def test_prompts_are_unchanged(text: str) -> None:
    """Not a character is touched, and none is printed."""
    plan = plan_with_rule("image", 'p = { type = "string" }', 'prompt = "p"', prompt=text)
    assert plan.input == {"p": text}
    assert fate(plan, "prompt") == ("honoured", "", "")


def test_unsupported_parameters_are_dropped_and_reported() -> None:
    """Never in silence."""
    plan = plan_with_rule("image", 'p = { type = "string" }', 'prompt = "p"', size=Size(10, 20))
    assert fate(plan, "size") == ("dropped", "10x20", "")
    assert plan.report[0].reason
