"""Whether what a model file says of one model fits together: asked once, when it is read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mediagate_server.catalog.fields import FIELDS
from mediagate_server.catalog.harms import HARMS
from mediagate_server.catalog.plan import OutputKind
from mediagate_server.catalog.prices import AS_OF
from mediagate_server.catalog.request import Modality
from mediagate_server.catalog.rules.chat import FIELDS as CHAT_FIELDS
from mediagate_server.catalog.rules.chat import ChatStyle
from mediagate_server.catalog.rules.guard import FIELDS as GUARD_FIELDS
from mediagate_server.catalog.rules.rule import Rule

if TYPE_CHECKING:
    from mediagate_server.catalog.model import Model

_NOT_MAPPED = frozenset({*CHAT_FIELDS, *GUARD_FIELDS})
"""What `chat` and `guard` carry together."""


def inconsistencies(model: "Model") -> Iterator[str]:
    """Everything that the data says about inputs or fields which do not exist or do not fit."""
    yield from _kind_problems(model)
    if model.output_format and model.output_format not in model.inputs:
        yield f"output_format: there is no input {model.output_format!r}"
    for name, value in model.defaults.items():
        yield from _misfit(model, "defaults", name, value)
    for metric, expectation in model.expects.items():
        for key in ("input", "width", "height"):
            name = getattr(expectation, key, "")
            if name and name not in model.inputs:
                yield f"expects.{metric}: there is no input {name!r}"
    yield from _chat_problems(model)
    yield from _guard_problems(model)
    for name, rule in model.map.items():
        kind = FIELDS[model.modality].get(name)
        belongs = (model.chat or model.guard) and name in _NOT_MAPPED
        if kind is None or belongs:
            yield f"map.{name}: not a parameter that can be mapped"
        elif kind not in rule.takes:
            yield f"map.{name}: a rule {rule.rule!r} cannot carry it"
        yield from _rule_problems(model, name, rule)


def _kind_problems(model: "Model") -> Iterator[str]:
    if (model.kind.value == "community") != bool(model.version):
        yield "version: belongs to community models, and they need one"
    if (model.chat is None) == (model.modality is Modality.TEXT):
        yield "chat: belongs to text models, and they need one"
    if model.usual_run > model.max_run:
        yield "usual_run: is longer than max_run"
    if model.successor and model.status.value == "live":
        yield "successor: belongs to retired models"
    if model.modality is Modality.AUDIO and not model.makes:
        yield "makes: a model of sounds must say which kinds"
    if model.price.tiers and not (AS_OF.fullmatch(model.price.as_of) and model.price.source):
        yield "price: says of when it is (2026, 2026-11 or 2026-11-24) and where it was read"
    if model.slug in model.fallbacks or len(set(model.fallbacks)) < len(model.fallbacks):
        yield "fallbacks: a chain comes back to a model that it has been at"


def _rule_problems(model: "Model", name: str, rule: Rule) -> Iterator[str]:
    for target, value in rule.also.items():
        yield from _misfit(model, f"map.{name}.also", target, value)
    for word, others in rule.forces.items():
        for target, value in others.items():
            yield from _misfit(model, f"map.{name}.forces.{word}", target, value)
    missing = [target for target in rule.mentions if target not in model.inputs]
    yield from (f"map.{name}: there is no input {target!r}" for target in missing)
    if not missing and (problem := rule.problem(model.inputs)):
        yield f"map.{name}: {problem}"


def _chat_problems(model: "Model") -> Iterator[str]:
    if model.chat is None:
        return
    for name in model.chat.targets:
        if name not in model.inputs:
            yield f"chat: there is no input {name!r}"
    if model.chat.style is ChatStyle.TURNS and not model.chat.messages:
        yield "chat.messages: the style `turns` needs it"
    if model.chat.style is ChatStyle.LLAMA3 and not model.chat.template:
        yield "chat.template: the style `llama3` needs it"


def _guard_problems(model: "Model") -> Iterator[str]:
    if (model.guard is None) == (model.modality is Modality.SAFETY):
        yield "guard: belongs to safety models, and they need one"
    if (model.output.kind is OutputKind.VERDICT) != (model.modality is Modality.SAFETY):
        yield "output.kind: `verdict` is what safety models answer, and nothing else"
    elif model.modality is Modality.SAFETY and model.output.field not in HARMS:
        yield f"output.field: no list of categories is called {model.output.field!r}"
    if model.guard:
        for name in model.guard.targets:
            if name not in model.inputs:
                yield f"guard: there is no input {name!r}"


def _misfit(model: "Model", where: str, name: str, value: Any) -> Iterator[str]:
    if name not in model.inputs:
        yield f"{where}: there is no input {name!r}"
    elif reason := model.inputs[name].problem(value):
        yield f"{where}.{name}: {value!r} {reason}"
