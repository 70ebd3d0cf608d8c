"""Input URLs that point at this sandbox: uploaded files, outputs of earlier runs.

A model downloads its inputs when it runs. URLs of other hosts are not checked, as nothing here
reads them; a missing file of this sandbox makes the run fail, as on Replicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mediagate_sandbox.examples import ExamplePredictions
from mediagate_sandbox.files import find_recipe
from mediagate_sandbox.predictions import PredictionRequest
from mediagate_sandbox.store import Store
from mediagate_sandbox.uploads import Uploads

_GONE = "404 Client Error: Not Found for an input file"


class InputLinks:
    """Checks whether input URLs can still be read."""

    def __init__(self, store: Store, examples: ExamplePredictions, uploads: Uploads) -> None:
        """Create a check on stores of files."""
        self._store = store
        self._examples = examples
        self._uploads = uploads

    def resolve(self, request: PredictionRequest, origin: str) -> PredictionRequest:
        """Return the request; its run fails if it needs a file that no longer exists."""
        if all(self._is_there(link, origin) for link in _links(request)):
            return request
        script = replace(
            request.script, steps=(), files=(), answer=None, ending="fail", error=_GONE
        )
        return replace(request, script=script)

    def _is_there(self, link: str, origin: str) -> bool:
        if not link.startswith(f"{origin}/"):
            return True
        match link.partition("?")[0].removeprefix(f"{origin}/").split("/"):
            case ["v1", "files", upload, *_]:
                return self._uploads.find(upload) is not None
            case ["files", key, name]:
                prediction = self._store.by_file(key) or self._examples.by_file(key)
                return find_recipe(prediction, name) is not None
            case _:
                return True


def _links(request: PredictionRequest) -> Iterator[str]:
    for name, field in request.model.inputs.items():
        value = request.input.get(name)
        if field.type == "uri" and isinstance(value, str):
            yield value
        elif field.type == "uris" and isinstance(value, list):
            yield from (each for each in value if isinstance(each, str))
