"""Calls of every model, in every way that its price can hang on, as anybody would send them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    audio_pb2,
    image_pb2,
    medium_pb2,
    models_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
    video_pb2,
)
from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.models.model_info import ParameterInfo, list_parameters
from mediagate_server.catalog.pricing.cost_estimate import InputUnits
from mediagate_server.catalog.request import Modality

PICTURE = medium_pb2.MediaInput(uri="https://a.example/x.png")
_REQUESTS = {
    Modality.TEXT: text_pb2.GenerateTextRequest,
    Modality.IMAGE: image_pb2.GenerateImageRequest,
    Modality.VIDEO: video_pb2.GenerateVideoRequest,
    Modality.AUDIO: audio_pb2.GenerateAudioRequest,
    Modality.SAFETY: safety_pb2.CheckSafetyRequest,
}
_WORDS = {"prompt", "text", "lyrics"}
_MEDIA = {"first_frame", "source_video", "source_audio"}
_VARIED = ("duration", "resolution", "generate_audio", "megapixels", "count")


@dataclass(frozen=True, slots=True)
class Call:
    """A request of one model, and the name of the stub's method."""

    model: str
    modality: Modality
    request: Any

    @property
    def estimated(self) -> models_pb2.EstimateCostRequest:
        """The question what it would cost."""
        return models_pb2.EstimateCostRequest(**{self.modality.value: self.request})


def calls(model: Model) -> Iterator[Call]:
    """One for each combination of what its price can hang on."""
    by_name = {offer.parameter: offer for offer in list_parameters(model)}
    varied = {name: _values(by_name[name]) for name in _VARIED if name in by_name}
    own = {f".{name}": values for name, values in _own(model).items()}
    choices = {**varied, **own}
    for values in itertools.product(*choices.values()):
        yield _call(model, dict(zip(choices, values, strict=True)))


def _call(model: Model, chosen: dict[str, Any]) -> Call:
    options = options_pb2.GenerationOptions(model=model.slug)
    request = _REQUESTS[model.modality](options=options, **_base(model))
    request.wait.seconds = 50
    for name, value in chosen.items():
        if name.startswith("."):
            request.options.model_parameters.update({name[1:]: value})
        elif name == "duration":
            request.duration.CopyFrom(_duration(value))
        else:
            setattr(request, name, value)
    return Call(model.slug, model.modality, request)


def _base(model: Model) -> dict[str, Any]:
    """What the model cannot do without."""
    if model.guard:
        return {"content": "Is this all right?"}
    if model.chat:
        return {"prompt": "How far is the moon, and why does it not fall?"}
    words = dict.fromkeys(_WORDS & set(model.map), "A song about the sea, and ships")
    if {"prompt", "text"} <= set(words):
        words.pop("prompt")
    media = {
        name: PICTURE
        for name in _MEDIA & set(model.map)
        if any(model.inputs[target].required for target in model.map[name].targets)
    }
    return {**words, **media}


def _values(offer: ParameterInfo) -> list[Any]:
    """All that are listed; of a range its ends, and one between. None of a film's last resort."""
    if offer.parameter == "generate_audio":
        return [False, True] if not offer.allowed_values else [offer.allowed_values[0] == "true"]
    if offer.parameter == "count":
        return [1, 3]
    if offer.allowed_values:
        number = offer.parameter in ("duration", "megapixels")
        return [float(word) if number else word for word in offer.allowed_values]
    if offer.parameter == "duration" and offer.minimum is not None:
        # No longer than the sandbox makes, and quick to make.
        return [offer.minimum, min(offer.maximum or 12, offer.minimum + 2)]
    return [8.0] if offer.parameter == "duration" else [1.0]


def _own(model: Model) -> dict[str, list[Any]]:
    """Inputs of its own that its price hangs on and no field reaches."""
    reached = {target for rule in model.map.values() for target in rule.targets}
    hang = {rule.input for rule in model.expects.values() if isinstance(rule, InputUnits)}
    values_by_input = {}
    for name in sorted(hang - reached):
        spec = model.inputs[name]
        values_by_input[name] = list(spec.enum) or [False, True]
    return values_by_input


def _duration(seconds: float) -> Duration:
    span = Duration()
    span.FromNanoseconds(round(seconds * 1e9))
    return span
