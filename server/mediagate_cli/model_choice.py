"""Model choice of the demo: the cheapest class of models that takes its parameters exactly."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mediagate.v1.models_pb2 import Model, ModelParameter


def choose_model(models: "Iterable[Model]", fits: "Callable[[Model], bool]") -> str:
    """Return the slug of the first live model that fits. Empty: none, let the server choose."""
    live = [model for model in models if model.status == model.STATUS_LIVE]
    fitting = sorted((model.quality, model.slug) for model in live if fits(model))
    return fitting[0][1] if fitting else ""


def find_parameter(model: "Model", name: str) -> "ModelParameter | None":
    """Return a model's parameter by its name in the contract; None if it has none."""
    return next((parameter for parameter in model.parameters if parameter.parameter == name), None)


def accepts(model: "Model", name: str, value: float) -> bool:
    """Whether a model accepts that number for a parameter unchanged."""
    accepted = find_parameter(model, name)
    if accepted is None:
        return False
    if accepted.allowed_values:
        return f"{value:g}" in accepted.allowed_values
    return not (
        (accepted.HasField("minimum") and value < accepted.minimum)
        or (accepted.HasField("maximum") and value > accepted.maximum)
    )


def accepts_exact_size(model: "Model", width: int, height: int) -> bool:
    """Whether a model makes images of exactly that size, not only of that aspect ratio."""
    accepted = find_parameter(model, "size")
    exact = accepted is not None and accepted.input_name == "width"
    return exact and accepts(model, "size", width) and accepts(model, "size", height)


def supports_wav(model: "Model") -> bool:
    """Whether a model's audio can be WAV."""
    accepted = find_parameter(model, "output_format")
    return accepted is not None and "wav" in accepted.allowed_values
