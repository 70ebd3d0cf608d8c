"""Model faults: changed schemas, removed models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from mediagate_sandbox.faults.actions import ChangeSchema, RetireModel
from mediagate_sandbox.faults.engine import FiredFault
from mediagate_sandbox.models import Catalog, InputField, Model


def apply_model_faults(catalog: Catalog, firings: Sequence[FiredFault]) -> Catalog:
    """Return the catalog with the faults of one request."""
    strikes = [each for each in firings if _is_about_models(each)]
    if not strikes:
        return catalog
    models = [(_with_faults(model, strikes)) for model in catalog]
    return Catalog(model for model in models if model is not None)


def _is_about_models(firing: FiredFault) -> bool:
    return isinstance(firing.fault.action, ChangeSchema | RetireModel)


def _with_faults(model: Model, strikes: Sequence[FiredFault]) -> Model | None:
    """Return the model with these faults; None if it is removed."""
    for firing in strikes:
        if not firing.fault.applies_to(model.slug):
            continue
        match firing.fault.action:
            case RetireModel():
                return None
            case ChangeSchema(remove=remove, require=require):
                model = _with_schema_change(
                    model, remove, require, new_version=firing.on == "model"
                )
    return model


def _with_schema_change(
    model: Model, remove: Sequence[str], require: Sequence[str], *, new_version: bool
) -> Model:
    """Return the model with a changed schema and a new version id."""
    inputs = {name: each for name, each in model.inputs.items() if name not in remove}
    for name in require:
        if name in inputs:
            inputs[name] = replace(inputs[name], required=True, default=None)
        else:
            inputs[name] = InputField("string", "Required of late", required=True)
    version = model.version
    if new_version:
        version = hashlib.sha256(f"{version} {sorted(inputs)} {require}".encode()).hexdigest()
    return replace(model, inputs=inputs, version=version)
