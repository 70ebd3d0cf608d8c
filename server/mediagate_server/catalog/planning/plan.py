"""Execution plan of one model: target, input, report, price and estimate, fixed before any
spending.

Admission, estimates and the run itself use the same plan, so they cannot disagree.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from mediagate_server.catalog.models.model import Model, OutputShape
from mediagate_server.catalog.parameters.rule import ParameterReport
from mediagate_server.catalog.pricing.prices import Estimate, PriceSchedule
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.structs import replace


class Substitution(Struct, frozen=True):
    """Substitution of a model: the requested name as it was written, and the reason."""

    requested_model: str
    reason: str


class Alternative(Struct, frozen=True):
    """A model that was not chosen: its cost estimate, and the reason."""

    model: str
    estimate: Estimate
    reason: str


class ModelChoice(Struct, frozen=True):
    """Explanation of a model choice: the reason, and the alternatives with their costs."""

    reason: str
    alternatives: tuple[Alternative, ...]


class Plan(Struct, frozen=True):
    """Execution plan of a run.

    `target` is what `CreateRequest.target` takes (with the pinned version for community models);
    `slug` is the catalog's name and the only one that callers and metrics see. `seed` is the seed
    sent, where the model takes one. `output_count` is the number of requested outputs. `price` is
    what the run settles by: it holds what was sent about its tiers. `max_run` is the longest run
    time in seconds, which bounds the estimate of models billed by time; `usual_run` is the usual
    one, from the create to the end; 0: not known. `substitution` is set where a substitute runs for
    the requested model, `choice` where no model was requested.

    `runs` is how many runs like this one make the requested outputs, one each: `run` gives the plan
    of one. `estimate` is of one of them, `total_estimate` of all. `token_limit` is the maximum of
    output tokens of a text, as sent or as the model has it; None: there is none, or it is not
    known.
    """

    modality: Modality
    requested_model: str
    slug: str
    target: str
    input: Mapping[str, Any]
    report: tuple[ParameterReport, ...]
    seed: int | None
    streams: bool
    output: OutputShape
    output_count: int
    price: PriceSchedule
    estimate: Estimate
    max_run: int
    usual_run: int = 0
    substitution: Substitution | None = None
    choice: ModelChoice | None = None
    runs: int = 1
    seed_input: str = ""
    largest_seed: int | None = None
    token_limit: int | None = None

    @property
    def total_estimate(self) -> Estimate:
        """Cost estimate of all runs together."""
        return self.estimate.times(self.runs)

    def run(self, index: int) -> "Plan":
        """The plan of the run that makes the output of this index: the same, with a seed of its
        own.

        Its seed is `index` above the first one's, and begins again from 0 after the largest.
        """
        if not index or self.seed is None:
            return self
        seed = self.seed + index
        if self.largest_seed is not None:
            seed %= self.largest_seed + 1
        return replace(self, seed=seed, input={**self.input, self.seed_input: seed})


PlanModel = Callable[[Model, ModelRequest], Plan]
"""Function that plans a request for one model. Raises MediagateError where it cannot take it."""
