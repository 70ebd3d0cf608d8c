"""Requests that a door would let in, drawn at random for a model of the catalog."""

from typing import Any

from hypothesis import strategies as st

from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.parameters.contract_fields import FIELDS, FieldKind
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
from mediagate_server.catalog.schemas.input_spec import InputSpec, InputType

CANARY = "xyzzy"
SUBJECT = {"prompt", "text", "lyrics"}
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
    images = model.chat.images if model.chat else ""
    piece = PROSE | MEDIUM if images and model.inputs[images].is_list else PROSE
    parts = st.lists(piece, min_size=1, max_size=2).map(tuple)
    turn = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), parts)
    last = st.builds(Message, st.just("user"), PROSE.map(lambda text: (text,)))
    return st.builds(lambda turns, end: (*turns, end), st.lists(turn, max_size=3), last)


def values(model: Model, field: str, kind: FieldKind) -> st.SearchStrategy[Any]:
    """All that the contract lets a parameter be."""
    if field == "kind":
        return st.sampled_from(model.makes)
    if field == "count":
        return st.integers(1, 6)
    if kind is FieldKind.NUMBER:
        return st.floats(*NUMBERS[field])
    if kind is FieldKind.INTEGER:
        return st.integers(*WHOLES[field])
    if kind is FieldKind.WORD:
        return st.sampled_from(WORDS[field])
    return {
        FieldKind.FREE_TEXT: PROSE,
        FieldKind.MESSAGES: messages(model),
        FieldKind.STRINGS: st.lists(PROSE, min_size=1, max_size=3).map(tuple),
        FieldKind.BOOLEAN: st.booleans(),
        FieldKind.MEDIUM: MEDIUM,
        FieldKind.RESPONSE_FORMAT: st.sampled_from(
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
    if model.modality is Modality.AUDIO and not needed & SUBJECT:
        needed |= SUBJECT & model.map.keys()  # One that takes words is told some.
    optional = draw(st.permutations(sorted(set(fields) - needed)))
    chosen = [*needed, *optional[: draw(st.integers(0, len(optional)))]]
    for group in EXCLUSIVE:
        first_of_group = [name for name in chosen if name in group][:1]
        chosen = [name for name in chosen if name not in group or name in first_of_group]
    parameters = {name: draw(values(model, name, fields[name])) for name in chosen}
    own = draw(own_inputs(model, set(chosen)))
    return ModelRequest(model.modality, model.slug, parameters, strict=strict, model_parameters=own)


@st.composite
def own_inputs(draw: st.DrawFn, model: Model, chosen: set[str]) -> dict[str, Any]:
    """A few inputs of the model's own that no field reaches, at values that they take."""
    reached = {
        target
        for rule in model.map.values()
        for target in (*rule.targets, *rule.also, *(n for f in rule.forces.values() for n in f))
    }
    text_format = model.chat or model.guard
    reached |= set(text_format.targets) if text_format else set()
    free = {
        name: spec
        for name, spec in model.inputs.items()
        if name not in reached and not spec.reserved and not spec.pattern
    }
    names = draw(st.permutations(sorted(free)))[: draw(st.integers(0, 2))]
    return {name: draw(fitting(free[name])) for name in names}


def fitting(spec: InputSpec) -> st.SearchStrategy[Any]:
    """Values that an input takes."""
    if spec.enum:
        return st.sampled_from(spec.enum)
    least, most = spec.min, spec.max
    return {
        InputType.BOOLEAN: st.booleans(),
        InputType.INTEGER: st.integers(
            None if least is None else int(least), None if most is None else int(most)
        ),
        InputType.NUMBER: st.floats(least, most, allow_nan=False, allow_infinity=False),
        InputType.STRING: PROSE,
        InputType.URI: st.just("https://example.com/xyzzy"),
        InputType.URIS: st.just(["https://example.com/xyzzy"]),
        InputType.STRINGS: st.lists(PROSE, max_size=2),
        InputType.OBJECTS: st.just([]),
        InputType.NUMBERS: st.just([]),
    }[spec.type]
