"""Writer-thread cache of running counts, checkpoints and bindings; valid as it alone writes."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from typing import Final

from mediagate_server.store.records import Generation, RequestBinding

RECENT_BINDINGS: Final = 4_096
"""More than are committed between a query of a binding and the commit that depends on it."""
_ACCEPTS_UNTIL_SURE: Final = 1_024
"""Accepts that query the file after an invalidation: those in flight had queried before."""

Flush = Callable[[], sqlite3.Connection]
"""Returns the connection after pending rows were written (RowBatch.flush)."""


class WriterCache:
    """Running generations by tenant, generations with checkpoints, and recent bindings.

    Loaded from the file at first use. After a rollback it is wrong: then `invalidate` it.
    """

    def __init__(self) -> None:
        self._is_loaded = False
        self._running: defaultdict[str, set[str]] = defaultdict(set)
        self._with_checkpoints: set[str] = set()
        self._bindings: dict[tuple[str, str], RequestBinding] = {}
        self._unsure_accepts = 0

    def invalidate(self) -> None:
        """Load it again before the next use."""
        self._is_loaded = False
        self._bindings.clear()
        self._unsure_accepts = _ACCEPTS_UNTIL_SURE

    @property
    def may_miss_bindings(self) -> bool:
        """Whether a recent binding may be missing here: then the file must be queried."""
        return self._unsure_accepts > 0

    def recent_binding(self, tenant: str, request_id: str) -> RequestBinding | None:
        """The binding of a request_id that was committed or written recently.

        Whoever binds one has queried the file shortly before. Of many who do so at once the first
        is found here by the others, which costs no statement and no second run.
        """
        return self._bindings.get((tenant, request_id))

    def add_binding(self, tenant: str, request_id: str, binding: RequestBinding) -> None:
        """Note a new binding."""
        self._unsure_accepts = max(0, self._unsure_accepts - 1)
        self._bindings[tenant, request_id] = binding
        if len(self._bindings) > RECENT_BINDINGS:
            for oldest in list(islice(self._bindings, RECENT_BINDINGS // 2)):
                del self._bindings[oldest]

    def remove_binding(self, generation: Generation) -> None:
        """Note that the request_id of a generation was released."""
        key = generation.tenant, generation.request_id
        binding = self._bindings.get(key)
        if binding and binding.generation_id == generation.id:
            del self._bindings[key]

    def count_running(self, flush: Flush, tenant: str) -> int:
        """How many generations of a tenant are not terminal."""
        self._load(flush)
        return len(self._running[tenant])

    def on_saved(self, flush: Flush, generation: Generation) -> None:
        """Note that a version of a generation was written."""
        self._load(flush)
        if generation.state.is_terminal:
            self._running[generation.tenant].discard(generation.id)
        else:
            self._running[generation.tenant].add(generation.id)

    def on_checkpoint(self, flush: Flush, generation_id: str) -> None:
        """Note that a checkpoint of a generation was written."""
        self._load(flush)
        self._with_checkpoints.add(generation_id)

    def pop_checkpoints(self, flush: Flush, generation_id: str) -> bool:
        """Whether a generation has checkpoints, which the caller then deletes."""
        self._load(flush)
        has_checkpoints = generation_id in self._with_checkpoints
        self._with_checkpoints.discard(generation_id)
        return has_checkpoints

    def _load(self, flush: Flush) -> None:
        if self._is_loaded:
            return
        connection = flush()
        self._running.clear()
        for tenant, generation_id in connection.execute(
            "SELECT tenant, id FROM generations WHERE terminal = 0"
        ).fetchall():
            self._running[tenant].add(generation_id)
        rows = connection.execute("SELECT DISTINCT generation_id FROM checkpoints").fetchall()
        self._with_checkpoints = {generation_id for (generation_id,) in rows}
        self._is_loaded = True
