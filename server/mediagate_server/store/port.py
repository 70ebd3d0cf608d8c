"""The store port: the sum of the narrower ports that each lie beside the records they are about."""

from datetime import datetime
from typing import Protocol

from mediagate_server.store.budgets import BudgetStore
from mediagate_server.store.charge_queries import LedgerStore
from mediagate_server.store.generation_history import GenerationHistory
from mediagate_server.store.generations import GenerationStore
from mediagate_server.store.ledger_reconciliations import ReconciliationStore
from mediagate_server.store.outbox import Outbox
from mediagate_server.store.ownership import Ownership


class Store(GenerationStore, LedgerStore, BudgetStore, Ownership, Protocol):
    """A durable store with one owner. What a method has returned survives a loss of power.

    Every method raises errors.StoreUnavailable when it cannot do its work: nothing was written.
    After another process has taken the store over, every write raises StaleOwner.
    """

    @property
    def history(self) -> GenerationHistory:
        """Stored requests and earlier results: to be found again, and to be erased."""
        ...

    @property
    def reconciliations(self) -> ReconciliationStore:
        """Comparisons of the ledger with upstream's list of predictions."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Webhook events that are still to be delivered."""
        ...

    async def claim_webhook(self, webhook_id: str, now: datetime) -> bool:
        """Deduplicate an incoming webhook: True for the first claim of its id in 24 hours."""
        ...

    async def has_webhook(self, webhook_id: str) -> bool:
        """Whether the id of an incoming webhook was claimed."""
        ...

    async def secret_key(self, name: str) -> bytes:
        """The secret key of this name: 32 random bytes, generated at its first use."""
        ...
