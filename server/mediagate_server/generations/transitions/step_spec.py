"""Specification of a step: what it is to make, and how its output is read. Pure."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from mediagate_server.catalog.models.model import OutputKind, OutputShape
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.generations.transitions import attempts
from mediagate_server.store.records import Attempt, Generation, Purpose


class StepSpec(Struct, frozen=True):
    """One step of a generation, by the model of one of its attempts.

    Its fields have the names that a Generation has for the same.
    """

    id: str
    tenant: str
    modality: str
    model: str
    shape: Mapping[str, str]
    created_at: datetime
    deadline_at: datetime
    attempt: Attempt

    @property
    def purpose(self) -> Purpose:
        """Whether it is a screening, or makes an output."""
        return self.attempt.purpose

    @property
    def output_shape(self) -> OutputShape:
        """How its output is to be read."""
        shape = self.shape
        return OutputShape(OutputKind(shape["kind"]), shape["field"], shape["media_type"])

    @property
    def requested_outputs(self) -> int:
        """How many outputs its run was asked for."""
        return int(self.shape.get("count", "1"))


def step_spec(record: Generation, attempt: Attempt, plan: Plan | None) -> StepSpec:
    """Of the step that an attempt is of. `plan` None: not known any more, as the record shows."""
    return StepSpec(
        record.id,
        record.tenant,
        "safety" if attempt.purpose is Purpose.SCREEN else record.modality,
        attempt.model,
        attempts.shape_of_plan(plan) if plan else record.shape,
        record.created_at,
        record.deadline_at,
        attempt,
    )
