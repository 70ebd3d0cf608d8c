"""What the metrics are told of a generation. Counting money happens here and nowhere else."""

from datetime import datetime

from mediagate_server import telemetry
from mediagate_server.interceptors.outbound.call import OTHER
from mediagate_server.store.records import Cost, Generation


def count_first_text(record: Generation, now: datetime) -> None:
    """The first delta came."""
    seconds = (now - record.created_at).total_seconds()
    telemetry.first_token_seconds.labels(_label(record.modality, record.model)).observe(seconds)


def count_end(record: Generation) -> None:
    """The generation is terminal and its cost is in the ledger. Called once for each."""
    label = _label(record.modality, record.model)
    kind = (record.modality, label)
    telemetry.generations.labels(*kind, record.state.value).inc()
    if record.completed_at:
        seconds = (record.completed_at - record.created_at).total_seconds()
        telemetry.generation_seconds.labels(*kind).observe(seconds)
    count_cost(record.modality, record.model, record.cost)
    usage = record.usage
    if usage is None:
        return
    telemetry.tokens.labels(label, "input").inc(usage.input_tokens or 0)
    telemetry.tokens.labels(label, "output").inc(usage.output_tokens or 0)
    if record.modality == "image":
        telemetry.images.labels(record.model).inc(usage.images or len(_media(record)))
    elif record.modality in {"video", "audio"}:
        telemetry.media_seconds.labels(*kind).inc(usage.media_seconds or 0)


def count_cost(modality: str, model: str, cost: Cost | None) -> None:
    """An amount is in the ledger for good."""
    label = _label(modality, model)
    if cost is None or cost.nanos is None:
        telemetry.costs_unknown.labels(modality, label).inc()
    else:
        telemetry.cost_nanos.labels(modality, label).inc(cost.nanos)


def _label(modality: str, model: str) -> str:
    """The catalog's slug. A model that a caller named by its own slug would mint a series."""
    return OTHER if modality == "raw" else model


def _media(record: Generation) -> tuple[object, ...]:
    return record.output.media if record.output else ()
