"""Webhook faults: lost, repeated, reordered, late and forged deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from mediagate_sandbox.faults.actions import (
    DelayWebhook,
    ForgeWebhook,
    LoseWebhook,
    ReorderWebhooks,
    RepeatWebhook,
)
from mediagate_sandbox.faults.engine import FaultContext, FaultEngine
from mediagate_sandbox.faults.fault_context import context_of_prediction
from mediagate_sandbox.store import Store
from mediagate_sandbox.webhook_delivery import Delivery, DeliveryAttempt, DeliveryPolicy


def choose_delivery_policy(engine: FaultEngine, store: Store) -> DeliveryPolicy:
    """Return the delivery policy of the fault plan."""

    def policy(delivery: Delivery) -> Sequence[DeliveryAttempt]:
        postings: Sequence[DeliveryAttempt] = (DeliveryAttempt(),)
        if not engine.may_fire_at("webhook"):
            return postings
        for firing in engine.fire_faults(_context(delivery, store)):
            match firing.fault.action:
                case LoseWebhook():
                    postings = ()
                case RepeatWebhook(copies=copies):
                    postings = [each for each in postings for _ in range(copies)]
                case ReorderWebhooks():
                    postings = [replace(each, after_next=True) for each in postings]
                case DelayWebhook(ms=ms):
                    postings = [replace(each, delay=each.delay + ms / 1000) for each in postings]
                case ForgeWebhook(status=status, instead=instead):
                    lie = DeliveryAttempt(forged=True, body=_forged_body(delivery, status))
                    postings = [lie] if instead else [lie, *postings]
        return postings

    return policy


def _context(delivery: Delivery, store: Store) -> FaultContext:
    prediction = store.by_id(delivery.prediction)
    if prediction is not None:
        return context_of_prediction("webhook", prediction)
    return FaultContext("webhook", delivery.model, lambda: delivery.model, delivery.prediction)


def _forged_body(delivery: Delivery, status: str) -> bytes:
    """Return the delivery's body with another end."""
    forged: dict[str, object] = {
        "status": status,
        "output": None,
        "error": "This is a forgery.",
        "metrics": {},
    }
    return orjson.dumps(orjson.loads(delivery.body) | forged)
