"""What must hold for every model that is sold, whatever is asked of it."""

import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.estimate import ByPictures, Run
from mediagate_server.catalog.fields import FIELDS, FieldKind
from mediagate_server.catalog.inputs import problems
from mediagate_server.catalog.model import Model, ModelStatus
from mediagate_server.catalog.plan import Handling
from mediagate_server.catalog.prices import Scalar, cost
from mediagate_server.catalog.request import (
    Lora,
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    ResponseFormat,
    Size,
    Value,
)
from mediagate_server.catalog.rules.plain import Count
from mediagate_server.errors import ParameterUnsupported

CANARY = "xyzzy"
CATALOG = Catalog.load(draw_seed=lambda: 77)
MODELS = [model for model in CATALOG.models() if model.status is ModelStatus.LIVE]
TRIES = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.slug)

EXCLUSIVE = ({"size", "aspect_ratio", "megapixels", "resolution"}, {"prompt", "text"})
PROSE = st.text(max_size=40).map(lambda text: CANARY + text)
MEDIUM = st.sampled_from(["https://example.com/xyzzy.png", "data:image/png;base64,xyzzy"]).map(
    MediaInput
)
WORDS = {
    "reasoning_effort": ["none", "minimal", "low", "medium", "high", "xhigh"],
    "output_format": ["png", "jpeg", "webp", "wav", "mp3", "flac", "ogg"],
    "voice": ["announcer", "en_speaker_6", "Wise_Woman", "nobody"],
    "language": ["en", "en-US", "pt-BR", "English", "tlh"],
    "role": ["user", "assistant"],
}
NUMBERS = {
    "megapixels": (0.01, 64),
    "strength": (0, 1),
    "motion_strength": (0, 1),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "speed": (0.25, 4),
    "duration": (0.01, 600),
    "guidance_scale": (0, 100),
}
WHOLES = {
    "fps": (1, 120),
    "top_k": (0, 500),
    "steps": (1, 1000),
    "max_output_tokens": (1, 2**31 - 1),
    "seed": (0, 2**63 - 1),
}


def messages(model: Model) -> st.SearchStrategy[Value]:
    """A conversation that ends with the user, as the door lets it in and the model takes it."""
    piece = PROSE | MEDIUM if model.chat and model.chat.images else PROSE
    parts = st.lists(piece, min_size=1, max_size=2).map(tuple)
    turn = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), parts)
    last = st.builds(Message, st.just("user"), PROSE.map(lambda text: (text,)))
    return st.builds(lambda turns, end: (*turns, end), st.lists(turn, max_size=3), last)


def values(model: Model, field: str, kind: FieldKind) -> st.SearchStrategy[Any]:
    """All that the contract lets a parameter be."""
    if field == "kind":
        return st.sampled_from(model.makes)
    if field == "count":
        rule = model.map.get("count")
        return st.integers(1, rule.most(model.inputs) if isinstance(rule, Count) else 1)
    if kind is FieldKind.NUMBER:
        return st.floats(*NUMBERS[field])
    if kind is FieldKind.WHOLE:
        return st.integers(*WHOLES[field])
    if kind is FieldKind.WORD:
        return st.sampled_from(WORDS[field])
    return {
        FieldKind.PROSE: PROSE,
        FieldKind.MESSAGES: messages(model),
        FieldKind.STRINGS: st.lists(PROSE, min_size=1, max_size=3).map(tuple),
        FieldKind.FLAG: st.booleans(),
        FieldKind.MEDIUM: MEDIUM,
        FieldKind.FORM: st.sampled_from(
            [
                ResponseFormat("text", {}),
                ResponseFormat("json", {}),
                ResponseFormat("json_schema", {"type": "object"}),
            ]
        ),
        FieldKind.MEDIA: st.lists(MEDIUM, min_size=1, max_size=4).map(tuple),
        FieldKind.SIZE: st.builds(Size, st.integers(1, 9000), st.integers(1, 9000)),
        FieldKind.RATIO: st.builds(
            lambda width, height: f"{width}:{height}", st.integers(1, 100), st.integers(1, 100)
        ),
        FieldKind.RESOLUTION: st.sampled_from(["240p", "480p", "720p", "900p", "1080p", "4k"]),
        FieldKind.LORAS: st.lists(
            st.builds(Lora, st.just("https://example.com/w.tar"), st.floats(-10, 10)),
            min_size=1,
            max_size=3,
        ).map(tuple),
    }[kind]


@st.composite
def questions(draw: st.DrawFn, model: Model, *, strict: bool) -> ModelRequest:
    """Something to judge: a turn, or a conversation without pictures."""
    assert model.guard is not None
    roles = ["user", "assistant"] if model.guard.reply else ["user"]
    text = PROSE.map(lambda words: (words,))
    if draw(st.booleans()):
        turns = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), text)
        last = st.builds(Message, st.sampled_from(roles), text)
        talk = st.builds(lambda before, end: (*before, end), st.lists(turns, max_size=3), last)
        parameters: dict[str, Value] = {"messages": draw(talk)}
    else:
        parameters = {"content": draw(PROSE)}
        if draw(st.booleans()):
            parameters["role"] = draw(st.sampled_from(roles))
        if draw(st.booleans()):
            parameters["context"] = draw(PROSE)
    return ModelRequest(model.modality, model.slug, parameters, strict=strict)


@st.composite
def requests(draw: st.DrawFn, model: Model, *, strict: bool = False) -> ModelRequest:
    """A request that the door would let in and that gives the model what it cannot do without."""
    fields = {
        name: kind
        for name, kind in FIELDS[model.modality].items()
        if kind is not FieldKind.TOOLS  # which every model refuses
    }
    needed = {
        field
        for field, rule in model.map.items()
        if any(model.inputs[name].required for name in rule.targets)
    }
    if model.modality is Modality.TEXT:
        needed = {draw(st.sampled_from(["prompt", "messages"]))}
        fields.pop(({"prompt", "messages"} - needed).pop())
    if model.guard is not None:
        return draw(questions(model, strict=strict))
    if model.modality is Modality.AUDIO and needed & {"prompt", "text"}:
        spoken = draw(st.sampled_from(sorted(needed & {"prompt", "text"})))
        needed -= {"prompt", "text"} - {spoken}
    optional = draw(st.permutations(sorted(set(fields) - needed)))
    chosen = [*needed, *optional[: draw(st.integers(0, len(optional)))]]
    for group in EXCLUSIVE:
        kept = [name for name in chosen if name in group][:1]
        chosen = [name for name in chosen if name not in group or name in kept]
    parameters = {name: draw(values(model, name, fields[name])) for name in chosen}
    return ModelRequest(model.modality, model.slug, parameters, strict=strict)


@each_model
@TRIES
@given(data=st.data())
def test_what_is_sent_is_what_the_model_takes(model: Model, data: st.DataObject) -> None:
    """Names, types, ranges, enums and required inputs all hold, and it is plain JSON."""
    plan = CATALOG.plan(data.draw(requests(model)))
    assert problems(model.inputs, plan.input) == {}
    assert json.loads(json.dumps(plan.input)) == plan.input


@each_model
@TRIES
@given(data=st.data())
def test_every_parameter_is_accounted_for_once(model: Model, data: st.DataObject) -> None:
    """One line each, in the order set; a reason wherever something is not as asked."""
    request = data.draw(requests(model))
    report = CATALOG.plan(request).report
    assert [line.parameter for line in report] == list(request.parameters)
    for line in report:
        assert line.reason or line.handling is Handling.HONOURED
        assert not (line.handling is Handling.DROPPED and line.sent)
        assert CANARY not in line.requested + line.sent + line.reason
        assert "example.com" not in line.requested + line.sent + line.reason


@each_model
@TRIES
@given(data=st.data())
def test_order_of_parameters_means_nothing(model: Model, data: st.DataObject) -> None:
    """The same parameters in any order make the same input and the same handling."""
    request = data.draw(requests(model))
    names = data.draw(st.permutations(list(request.parameters)))
    turned = ModelRequest(
        request.modality, request.model, {name: request.parameters[name] for name in names}
    )
    one, other = CATALOG.plan(request), CATALOG.plan(turned)
    assert one.input == other.input
    assert sorted(map(str, one.report)) == sorted(map(str, other.report))


@each_model
@TRIES
@given(data=st.data())
def test_strict_refuses_exactly_what_would_not_be_as_asked(
    model: Model, data: st.DataObject
) -> None:
    """It names every adjusted or dropped field, or plans the very same input."""
    request = data.draw(requests(model, strict=True))
    lenient = CATALOG.plan(ModelRequest(request.modality, request.model, request.parameters))
    unmet = [
        line.parameter
        for line in lenient.report
        if line.handling in (Handling.ADJUSTED, Handling.DROPPED)
    ]
    if unmet:
        with pytest.raises(ParameterUnsupported) as refused:
            CATALOG.plan(request)
        assert [violation.field for violation in refused.value.failure.violations] == unmet
    else:
        assert CATALOG.plan(request).input == lenient.input


@each_model
@TRIES
@given(data=st.data())
def test_estimates_are_whole_and_ordered(model: Model, data: st.DataObject) -> None:
    """All three or none; and the most of what was foreseen is what the settle would charge."""
    request = data.draw(requests(model))
    plan = CATALOG.plan(request)
    bounds = (plan.estimate.low, plan.estimate.expected, plan.estimate.maximum)
    if not plan.price.tiers:
        assert bounds == (None, None, None)
        return
    known = [bound for bound in bounds if bound is not None]
    if not known:
        assert may_be_unknown(model, request), "its price is known, so its cost must have a bound"
        return
    assert len(known) == len(bounds)
    assert all(type(bound) is int and bound >= 0 for bound in known)
    assert all(one <= other for one, other in itertools.pairwise(known))


def may_be_unknown(model: Model, request: ModelRequest) -> bool:
    """What nobody can know before: the size of a picture or film that is given, an unseen tier."""
    given = {"messages", "reference_images", "source_video"} & set(request.parameters)
    return bool(given) or model.price.partial


def between(least: Scalar, most: Scalar) -> st.SearchStrategy[Scalar]:
    """What a run may report where this was foreseen."""
    if isinstance(least, int | Decimal) and isinstance(most, int | Decimal) and least < most:
        return st.decimals(least, most, allow_nan=False, places=3)
    return st.just(most)


@each_model
@TRIES
@given(data=st.data())
def test_what_a_run_costs_lies_within_its_estimate(model: Model, data: st.DataObject) -> None:
    """Whatever it uses of what was foreseen, and however many outputs it delivers."""
    plan = CATALOG.plan(data.draw(requests(model)))
    if plan.estimate.low is None or plan.estimate.maximum is None:
        return
    run = Run(plan.input, model.inputs, model.max_run)
    metrics = {}
    for name, rule in model.expects.items():
        seen = rule.foresee(run)
        assert seen is not None
        metrics[name] = data.draw(between(seen.low, seen.high))
    charge = cost(plan.price, metrics, outputs=plan.output_count)
    assert charge is not None
    assert plan.estimate.low <= charge <= plan.estimate.maximum


@each_model
@TRIES
@given(data=st.data())
def test_a_drawn_seed_is_sent_and_told(model: Model, data: st.DataObject) -> None:
    """Where the model takes a seed the plan knows it: the caller's, 0 included, or a drawn one."""
    request = data.draw(requests(model))
    plan = CATALOG.plan(request)
    if "seed" not in model.map:
        assert plan.seed is None
        return
    target = model.map["seed"].targets[0]
    most = model.inputs[target].max
    asked = request.parameters.get("seed", 77)
    assert isinstance(asked, int)
    assert plan.seed == (asked if most is None else min(asked, most))
    assert plan.input[target] == plan.seed


@each_model
def test_its_money_is_always_sent_for(model: Model) -> None:
    """Every input that the price or the estimate hangs on is sent, whatever upstream's default."""
    rules = (rule for rule in model.expects.values() if not isinstance(rule, ByPictures))
    hang = {getattr(rule, "input", "") for rule in rules} - {""}
    unsent = hang - set(model.defaults)
    assert all(model.inputs[name].required for name in unsent)


@each_model
def test_its_price_is_dated_or_unknown(model: Model) -> None:
    """A price says of when it is and where it was read; no price settles as unknown."""
    if model.price.tiers:
        assert model.price.as_of
        assert model.price.source
    else:
        assert cost(model.price, {"predict_time": 5}, outputs=1) is None
