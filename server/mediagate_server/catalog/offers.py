"""What a model offers, in the contract's words: for those who choose one by looking.

Derived from the same data that plans are made from, so that what is shown is what is done.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mediagate_server.catalog.inputs import InputSpec
from mediagate_server.catalog.model import Model
from mediagate_server.catalog.request import Modality
from mediagate_server.catalog.rules.chat import ChatStyle
from mediagate_server.catalog.rules.dimensions import Dimensions
from mediagate_server.catalog.rules.durations import Frames, Length
from mediagate_server.catalog.rules.plain import Choice, Fixed, Scaled
from mediagate_server.catalog.rules.rule import Rule, text_of
from mediagate_server.catalog.rules.shapes import Frame, Ratio, ratio_of

_BY_FIELD = {
    Modality.IMAGE: {
        "reference_images": "image-to-image",
        "mask": "inpainting",
        "loras": "adapters",
        "negative_prompt": "negative-prompt",
        "count": "several-outputs",
    },
    Modality.VIDEO: {
        "first_frame": "image-to-video",
        "last_frame": "last-frame",
        "source_video": "video-to-video",
        "reference_images": "reference-images",
        "negative_prompt": "negative-prompt",
    },
    Modality.AUDIO: {
        "lyrics": "lyrics",
        "continue_from": "continuation",
        "reference_audio": "reference-audio",
        "voice": "voices",
    },
}


@dataclass(frozen=True, slots=True)
class Offer:
    """One parameter that the model honours, with its bounds in the contract's unit.

    `input_name` is empty where nothing is sent because the model always does `allowed_values`.
    """

    parameter: str
    input_name: str
    minimum: float | None = None
    maximum: float | None = None
    allowed_values: tuple[str, ...] = ()
    default_value: str = ""
    required: bool = False


def offers(model: Model) -> tuple[Offer, ...]:
    """The parameters that are honoured as such. What is emulated or always adjusted is not here."""
    return (*_of_chat(model), *_of_guard(model), *_of_rules(model))


def capabilities(model: Model) -> tuple[str, ...]:
    """What it can do beyond the usual of its modality, as words with hyphens, in order."""
    found = {
        word for field, word in _BY_FIELD.get(model.modality, {}).items() if field in model.map
    }
    if model.chat and model.chat.images:
        found.add("vision")
    if "reasoning_effort" in model.map:
        found.add("reasoning")
    if model.map.get("generate_audio") and not isinstance(model.map["generate_audio"], Fixed):
        found.add("sound")
    found.update(kind.replace("_", "-") for kind in model.makes)
    return tuple(sorted(found))


def _of_chat(model: Model) -> Iterator[Offer]:
    chat = model.chat
    if chat is None:
        return
    yield Offer("prompt", chat.prompt)
    if chat.style is ChatStyle.TURNS:
        yield Offer("messages", chat.messages)
    if chat.system:
        yield Offer("system_prompt", chat.system)


def _of_guard(model: Model) -> Iterator[Offer]:
    guard = model.guard
    if guard is None:
        return
    yield Offer("content", guard.prompt)
    if guard.reply:
        words = ("user", "assistant")
        yield Offer("role", guard.reply, allowed_values=words, default_value="user")
        yield Offer("context", guard.prompt)


def _of_rules(model: Model) -> Iterator[Offer]:
    for name, rule in model.map.items():
        if isinstance(rule, Fixed):
            yield Offer(name, "", allowed_values=(text_of(rule.value),))
        elif _honours(name, rule):
            target = rule.targets[0]
            yield _offer(name, rule, target, model.inputs[target], model)


def _honours(name: str, rule: Rule) -> bool:
    """Sizes sent as a shape are always adjusted, shapes sent as pixels are emulated."""
    if isinstance(rule, Dimensions):
        return name == "size"
    return not isinstance(rule, Frame) and (name != "size" or len(rule.targets) == 1)


def _offer(name: str, rule: Rule, target: str, spec: InputSpec, model: Model) -> Offer:
    default = model.defaults.get(target, spec.default)
    if isinstance(rule, Scaled):
        return Offer(name, target, minimum=0, maximum=1)
    if isinstance(rule, Frames):
        return Offer(name, target, required=spec.required)
    if isinstance(rule, Dimensions):
        # The bounds of one side; the other input has its own.
        return Offer(name, target, minimum=spec.min, maximum=spec.max)
    words = [*_words(rule, spec)]
    if isinstance(rule, Choice | Ratio) and words:
        shown = next((word for word, own in words if own == text_of(default)), "")
        return Offer(name, target, allowed_values=_first(words), default_value=shown)
    unit = rule.per_second if isinstance(rule, Length) else 1
    if isinstance(default, int | float) and not isinstance(default, bool):
        default = default / unit
    return Offer(
        name,
        target,
        minimum=None if spec.min is None else spec.min / unit,
        maximum=None if spec.max is None else spec.max / unit,
        allowed_values=_first(words),
        default_value="" if default is None else text_of(default),
        required=spec.required,
    )


def _words(rule: Rule, spec: InputSpec) -> Iterator[tuple[str, str]]:
    """The contract's word and the model's own, for everything that can be chosen."""
    own = [text_of(value) for value in spec.enum]
    if isinstance(rule, Choice):
        named = {word: text_of(value) for word, value in rule.words.items()}
        yield from named.items()
        yield from ((word, word) for word in own if word not in named.values())
    elif isinstance(rule, Ratio):
        ratios = ((rule.ratios.get(word, word), word) for word in own)
        yield from (pair for pair in ratios if ratio_of(pair[0]) is not None)
    else:
        yield from ((word, word) for word in own)


def _first(words: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(word for word, _ in words)
