"""Execution plan of a generation: for each of its steps the models' plans to try, in order.

It is stored beside the record, sealed, until the generation is over: a process that comes after
this one can then send what waits, and knows what to look for in upstream's list.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import DecodeError, Raw, Struct, json, structs
from pydantic import TypeAdapter, ValidationError

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.store.budgets import Reservation
from mediagate_server.store.records import Attempt, Purpose


class StepPlan(Struct, frozen=True):
    """The plans of one step: the first is tried first, the others where it fails for good."""

    purpose: Purpose
    output_index: int
    plans: tuple[Plan, ...]


class ExecutionPlan(Struct, frozen=True, omit_defaults=True, rename={"steps": "lanes"}):
    """All steps of one generation; a screening, where there is one, comes first.

    `after_content_refusal`: another model is tried also where one refuses the content.
    `not_screened`: why there is no screening although one was requested; the record says so.
    `next_when_unconfirmed`: another model is sent while it is in doubt whether one was taken.
    """

    steps: tuple[StepPlan, ...]
    after_content_refusal: bool
    not_screened: str = ""
    next_when_unconfirmed: bool = False

    @classmethod
    def of(
        cls,
        *plans: Plan,
        screening: Plan | None = None,
        after_content_refusal: bool = False,
        not_screened: str = "",
        next_when_unconfirmed: bool = False,
    ) -> "ExecutionPlan":
        """As many outputs as the first plan has runs, each by the first of the plans that succeeds.

        A plan that makes another number of outputs in one run takes over for none of them.
        """
        first = plans[0]
        alike = [plan for plan in plans if plan.output_count == first.output_count]
        steps = [
            StepPlan(Purpose.GENERATE, index, tuple(plan.run(index) for plan in alike))
            for index in range(first.runs)
        ]
        if screening:
            steps.insert(0, StepPlan(Purpose.SCREEN, 0, (screening,)))
        return cls(tuple(steps), after_content_refusal, not_screened, next_when_unconfirmed)

    @property
    def chain(self) -> tuple[Plan, ...]:
        """What makes the first output."""
        return self.plans((Purpose.GENERATE, 0))

    @property
    def reservation(self) -> Reservation:
        """What is reserved of budgets when it is accepted: each step's first plan, at its most."""
        first = [step.plans[0] for step in self.steps]
        maxima = [plan.estimate.maximum for plan in first if plan.estimate.maximum is not None]
        unpriced = (plan.slug for plan in first if plan.estimate.maximum is None)
        return Reservation(sum(maxima), next(unpriced, ""))

    def plans(self, key: StepKey) -> tuple[Plan, ...]:
        """The plans of one step; none where it is not in this plan."""
        return next(
            (step.plans for step in self.steps if (step.purpose, step.output_index) == key), ()
        )

    def plan_of(self, attempt: Attempt) -> Plan | None:
        """What an attempt sends, or sent; None where that is not known any more."""
        plans = self.plans((attempt.purpose, attempt.output_index))
        return next((plan for plan in plans if plan.slug == attempt.model), None)


EMPTY_PLAN = ExecutionPlan((), after_content_refusal=False)
"""For a record whose inputs are not known any more."""


def dump_plan(plan: ExecutionPlan) -> bytes:
    """The plan as JSON. Holds prompts: it is to be sealed before it is written anywhere."""
    return _WRITER.encode(plan)


def load_plan(document: bytes) -> ExecutionPlan:
    """What `dump_plan` wrote. Raises ValueError where it is anything else."""
    try:
        stored = _READER.decode(document)
    except DecodeError:
        # What it says may show a value, and be logged.
        raise ValueError("the stored work is wrong") from None
    steps = (
        StepPlan(step.purpose, step.output_index, tuple(map(_plan, step.plans)))
        for step in stored.steps
    )
    return ExecutionPlan(
        tuple(steps),
        stored.after_content_refusal,
        next_when_unconfirmed=stored.next_when_unconfirmed,
    )


class _StoredPlan(Plan, frozen=True):
    """A plan before its price is read: of what it says of tiers, pydantic tells numbers and words
    apart, as it did when it read all of it.
    """

    price: Raw  # type: ignore[assignment]


class _StoredStep(Struct):
    purpose: Purpose
    output_index: int
    plans: tuple[_StoredPlan, ...]


class _StoredExecutionPlan(Struct, rename={"steps": "lanes"}):
    steps: tuple[_StoredStep, ...]
    after_content_refusal: bool
    next_when_unconfirmed: bool = False


def _plan(stored: _StoredPlan) -> Plan:
    try:
        price = _PRICE.validate_json(bytes(stored.price))
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} fields of the stored price are wrong") from None
    return Plan(**structs.asdict(stored) | {"price": price})


def _plain(value: object) -> object:
    """What the writer does not know: any mapping as a dict. Exact amounts it writes as text."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"cannot write a {type(value).__name__}")


_PRICE: Final = TypeAdapter(PriceSchedule)
_WRITER: Final = json.Encoder(enc_hook=_plain)
_READER: Final = json.Decoder(_StoredExecutionPlan)
