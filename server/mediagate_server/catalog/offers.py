"""What a model offers, in the contract's words: for those who choose one by looking.

Derived from the same data that plans are made from, so that what is shown is what is done.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mediagate_server.catalog.fields import FIELDS, FieldKind
from mediagate_server.catalog.inputs import InputSpec
from mediagate_server.catalog.model import Model
from mediagate_server.catalog.rules.chat import ChatStyle
from mediagate_server.catalog.rules.dimensions import Dimensions
from mediagate_server.catalog.rules.durations import Frames, Length
from mediagate_server.catalog.rules.plain import Choice, Fixed, Scaled
from mediagate_server.catalog.rules.rule import Rule, text_of
from mediagate_server.catalog.rules.shapes import Frame, Pixels, Ratio, ratio_of
from mediagate_server.catalog.rules.words import place

_RESOLUTION = re.compile(r"\d{3,4}p|4k", re.IGNORECASE)


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
    if isinstance(rule, Dimensions | Pixels):
        return name == "size"
    return name != "size" or not isinstance(rule, Frame | Ratio)


def _offer(name: str, rule: Rule, target: str, spec: InputSpec, model: Model) -> Offer:
    default = model.defaults.get(target, spec.default)
    if isinstance(rule, Scaled):
        return Offer(name, target, minimum=0, maximum=1)
    if isinstance(rule, Frames):
        return Offer(name, target, required=spec.required)
    if isinstance(rule, Dimensions):
        # The bounds of one side; the other input has its own.
        return Offer(name, target, minimum=spec.min, maximum=spec.max)
    words = [pair for pair in _words(rule, spec) if _is_of_the_contract(name, pair[0], model)]
    if isinstance(rule, Choice | Ratio | Pixels) and words:
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
        yield from ((_number(word), word) for word in own if word not in named.values())
    elif isinstance(rule, Ratio):
        ratios = ((rule.ratios.get(word, word), word) for word in own)
        yield from (pair for pair in ratios if ratio_of(pair[0]) is not None)
    elif isinstance(rule, Pixels):
        yield from ((word.replace(rule.separator, "x"), word) for word in own)
    else:
        yield from ((_number(word), word) for word in own)


def _number(word: str) -> str:
    """The bare number of a word that is a number and its unit: "2 MP" is 2."""
    bare = word.casefold().removesuffix("mp").strip()
    return bare if bare != word.casefold() and place(bare) is not None else word


def _is_of_the_contract(name: str, word: str, model: Model) -> bool:
    """Whether a caller could set it: models have words of their own that no field can hold."""
    kind = FIELDS[model.modality][name]
    if name == "kind":
        return word in model.makes
    if kind is FieldKind.RATIO:
        return ratio_of(word) is not None
    if kind is FieldKind.RESOLUTION:
        return _RESOLUTION.fullmatch(word) is not None
    if kind in (FieldKind.NUMBER, FieldKind.WHOLE):
        return word.replace(".", "", 1).isdecimal()
    return kind is not FieldKind.SIZE or ratio_of(word.replace("x", ":")) is not None


def _first(words: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(word for word, _ in words)
