"""Looks after inputs that lead back to this sandbox: uploaded files, outputs of earlier runs.

A model fetches its inputs when it runs. What lies elsewhere is taken on trust, as no run here looks
at it; what should lie here and is gone makes the run fail, as it does on Replicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mediagate_sandbox.files import find_recipe
from mediagate_sandbox.predictions import PredictionRequest
from mediagate_sandbox.store import Store
from mediagate_sandbox.uploads import Uploads

_GONE = "404 Client Error: Not Found for an input file"


class InputLinks:
    """Knows what can still be read here."""

    def __init__(self, store: Store, uploads: Uploads) -> None:
        """Keep where files can be."""
        self._store = store
        self._uploads = uploads

    def resolve(self, order: PredictionRequest, origin: str) -> PredictionRequest:
        """The order; its run fails if it needs a file that this sandbox no longer has."""
        if all(self._is_there(link, origin) for link in _links(order)):
            return order
        plan = replace(order.plan, steps=(), files=(), answer=None, ending="fail", error=_GONE)
        return replace(order, plan=plan)

    def _is_there(self, link: str, origin: str) -> bool:
        if not link.startswith(f"{origin}/"):
            return True
        match link.partition("?")[0].removeprefix(f"{origin}/").split("/"):
            case ["v1", "files", upload, *_]:
                return self._uploads.find(upload) is not None
            case ["files", key, name]:
                return find_recipe(self._store, key, name) is not None
            case _:
                return True


def _links(order: PredictionRequest) -> Iterator[str]:
    for name, field in order.model.inputs.items():
        value = order.input.get(name)
        if field.type == "uri" and isinstance(value, str):
            yield value
        elif field.type == "uris" and isinstance(value, list):
            yield from (each for each in value if isinstance(each, str))
