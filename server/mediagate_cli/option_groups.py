"""Options that many commands share, written once: a dataclass among a command's parameters.

Typer knows functions and their parameters alone, so the fields are spread into those.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any


def expand_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each dataclass among its parameters spread into its fields."""
    parameters = inspect.signature(command).parameters
    bundles: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def spread_command(**values: Any) -> None:
        made = {
            name: bundle(**{field.name: values.pop(field.name) for field in fields(bundle)})
            for name, bundle in bundles.items()
        }
        command(**values, **made)

    flat = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in parameters.items()
        if name not in bundles
    ]
    flat += [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for bundle in bundles.values()
        for field in fields(bundle)
    ]
    spread_command.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    spread_command.__annotations__ = {one.name: one.annotation for one in flat}
    return spread_command
