"""Carries out the faults that strike a model: its schema changes, or it is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from mediagate_sandbox.faults.actions import ChangeSchema, RetireModel
from mediagate_sandbox.faults.engine import FiredFault
from mediagate_sandbox.models import Catalog, InputField, Model


def apply_model_faults(catalog: Catalog, firings: Sequence[FiredFault]) -> Catalog:
    """The catalog as one request sees it."""
    strikes = [each for each in firings if _is_about_models(each)]
    if not strikes:
        return catalog
    models = [(_struck(model, strikes)) for model in catalog]
    return Catalog(model for model in models if model is not None)


def _is_about_models(firing: FiredFault) -> bool:
    return isinstance(firing.fault.action, ChangeSchema | RetireModel)


def _struck(model: Model, strikes: Sequence[FiredFault]) -> Model | None:
    """The model as it is under these faults; None if it is gone."""
    for firing in strikes:
        if not firing.fault.applies_to(model.slug):
            continue
        match firing.fault.action:
            case RetireModel():
                return None
            case ChangeSchema(remove=remove, require=require):
                model = _changed(model, remove, require, new_version=firing.on == "model")
    return model


def _changed(
    model: Model, remove: Sequence[str], require: Sequence[str], *, new_version: bool
) -> Model:
    """The model with another schema. Whoever looks it up is shown a new version id as well."""
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
