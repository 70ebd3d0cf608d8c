"""Example predictions of models: what `default_example` and the list of examples show.

An example is a run of the model on its least input that ended when the model's version was made. It
is made when first asked for, is on no list and no bill, and its files can be read for ever.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from mediagate_sandbox.create_requests import CreateRequestParser
from mediagate_sandbox.models import VERSION_CREATED_AT, Catalog, Model
from mediagate_sandbox.prediction_json import prediction_json
from mediagate_sandbox.predictions import Prediction

_PROMPT = "An astronaut riding a rainbow unicorn"
_VALUES: dict[str, Any] = {
    "uri": "https://example.com/input.png",
    "uris": ["https://example.com/input.png"],
    "strings": [_PROMPT],
    "array": [{"role": "user", "content": _PROMPT}],
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "object": {},
    "secret": "",
    "string": _PROMPT,
}


class ExamplePredictions:
    """Examples of all models of a catalog."""

    def __init__(self, parser: CreateRequestParser, catalog: Catalog) -> None:
        """Create the examples; none is made yet."""
        self._parser = parser
        self._catalog = catalog
        self._by_slug: dict[str, Prediction] = {}
        self._by_id: dict[str, Prediction] = {}
        self._by_file: dict[str, Prediction] = {}

    def document(self, slug: str, origin: str) -> dict[str, Any] | None:
        """Return the example of a model as JSON; None of a model that is not in the catalog."""
        model = self._catalog.by_slug(slug)
        if model is None:
            return None
        if slug not in self._by_slug:
            example = self._run(model)
            self._by_slug[slug] = self._by_id[example.id] = example
            self._by_file[example.file_key] = example
        return prediction_json(self._by_slug[slug], origin)

    def by_id(self, prediction_id: str) -> Prediction | None:
        """Find an example that was shown, by its id."""
        return self._by_id.get(prediction_id)

    def by_file(self, key: str) -> Prediction | None:
        """Find an example that was shown, by the key of its files."""
        return self._by_file.get(key)

    def _run(self, model: Model) -> Prediction:
        now = datetime.fromisoformat(VERSION_CREATED_AT)
        example = Prediction(0, self._parser.request_of(model, _least_input(model)), now)
        digest = hashlib.sha256(f"example {model.slug} {model.version}".encode()).hexdigest()
        example.id, example.file_key = digest[:26], digest[-40:]
        # An example is not followed: it has ended, and Replicate's have no stream either.
        example.stream = None
        example.start(now)
        for step in example.request.script.steps:
            example.add_output(step, now)
        example.succeed(now)
        return example


def _least_input(model: Model) -> dict[str, Any]:
    """Return the required inputs and the prompt, which a model's author would fill in."""
    given = {}
    for name, field in model.inputs.items():
        if field.required or (name == model.prompt_input and field.default in (None, "")):
            kind = field.any_of[0] if field.any_of else field.type
            given[name] = field.enum[0] if field.enum else _VALUES[kind]
    return given
