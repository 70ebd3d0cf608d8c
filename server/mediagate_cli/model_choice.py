"""Which model of a catalog makes exactly what is asked for, the cheapest class first."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mediagate.v1.models_pb2 import Model, ModelParameter


def choose_model(models: "Iterable[Model]", fits: "Callable[[Model], bool]") -> str:
    """Return the slug of the first live model that fits. Empty: none, let the gate choose."""
    live = [model for model in models if model.status == model.STATUS_LIVE]
    fitting = sorted((model.quality, model.slug) for model in live if fits(model))
    return fitting[0][1] if fitting else ""


def parameter(model: "Model", name: str) -> "ModelParameter | None":
    """Return how a model takes a field of the contract; None if it does not."""
    return next((found for found in model.parameters if found.parameter == name), None)


def takes(model: "Model", name: str, value: float) -> bool:
    """Say whether a model takes that number for a field as it is."""
    found = parameter(model, name)
    if found is None:
        return False
    if found.allowed_values:
        return f"{value:g}" in found.allowed_values
    return not (
        (found.HasField("minimum") and value < found.minimum)
        or (found.HasField("maximum") and value > found.maximum)
    )


def takes_pixels(model: "Model", width: int, height: int) -> bool:
    """Say whether a model makes pictures of that very size, not only of that shape."""
    found = parameter(model, "size")
    exact = found is not None and found.input_name == "width"
    return exact and takes(model, "size", width) and takes(model, "size", height)


def makes_wav(model: "Model") -> bool:
    """Say whether a model's sound can be had as WAV."""
    found = parameter(model, "output_format")
    return found is not None and "wav" in found.allowed_values
