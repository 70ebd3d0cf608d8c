"""Option groups: a dataclass parameter becomes the options of a command.

Typer reads options from function parameters alone, so the fields are expanded into those.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any


def expand_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator: replace each dataclass parameter of a command by its fields."""
    parameters = inspect.signature(command).parameters
    group_classes: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def spread_command(**values: Any) -> None:
        groups = {
            name: group_class(
                **{field.name: values.pop(field.name) for field in fields(group_class)}
            )
            for name, group_class in group_classes.items()
        }
        command(**values, **groups)

    flat = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in parameters.items()
        if name not in group_classes
    ]
    flat += [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for group_class in group_classes.values()
        for field in fields(group_class)
    ]
    spread_command.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    spread_command.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return spread_command
