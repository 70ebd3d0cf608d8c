"""Metrics of generations. Money is counted here and nowhere else."""

from datetime import datetime
from functools import cache
from typing import Any

from mediagate_server.observability import metrics
from mediagate_server.observability.metrics import OTHER_MODEL
from mediagate_server.store.records import Cost, Generation


def record_first_token(record: Generation, now: datetime) -> None:
    """The first delta came."""
    seconds = (now - record.created_at).total_seconds()
    _of(metrics.first_token_seconds, _label(record.modality, record.model)).observe(seconds)


def record_end(record: Generation) -> None:
    """The generation is terminal and its cost is in the ledger. Called once for each."""
    label = _label(record.modality, record.model)
    kind = (record.modality, label)
    _of(metrics.generations, *kind, record.state.value).inc()
    if record.completed_at:
        seconds = (record.completed_at - record.created_at).total_seconds()
        _of(metrics.generation_seconds, *kind).observe(seconds)
    usage = record.usage
    if usage is None:
        return
    _of(metrics.tokens, label, "input").inc(usage.input_tokens or 0)
    _of(metrics.tokens, label, "output").inc(usage.output_tokens or 0)
    if record.modality == "image":
        _of(metrics.images, record.model).inc(usage.images or len(_media(record)))
    elif record.modality in {"video", "audio"}:
        _of(metrics.media_seconds, *kind).inc(usage.media_seconds or 0)


def record_cost(modality: str, model: str, cost: Cost | None) -> None:
    """An amount is in the ledger for good."""
    label = _label(modality, model)
    if cost is None or cost.nanos is None:
        _of(metrics.costs_unknown, modality, label).inc()
    else:
        _of(metrics.cost_nanos, modality, label).inc(cost.nanos)


@cache
def _of(metric: Any, *labels: str) -> Any:
    """A metric's child: looking it up costs more than counting. Labels are a closed set."""
    return metric.labels(*labels)


def _label(modality: str, model: str) -> str:
    """The catalog's slug. A model that a caller named by its own slug would mint a series."""
    return OTHER_MODEL if modality == "raw" else model


def _media(record: Generation) -> tuple[object, ...]:
    made = record.output.media if record.output else ()
    return tuple(one for one in made if one.uri or one.is_stored)
