"""JSON of predictions, in Replicate's format.

Absolute URLs are made here, from the origin the caller can reach.
"""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import Any

from mediagate_sandbox.generators.spec import file_format
from mediagate_sandbox.generators.transcript import transcript
from mediagate_sandbox.predictions import Prediction

_FRACTION_DIGITS = (2, 3, 4, 5, 6, 8, 9)
"""All lengths that Replicate's timestamps were seen with."""


def prediction_json(
    prediction: Prediction, origin: str, *, handed_over: bool = False
) -> dict[str, Any]:
    """Return the prediction object.

    `handed_over` shows a finished run the way a synchronous create does: all output, but still
    `processing`, without `completed_at` or `metrics`.
    """
    request = prediction.request
    early = handed_over and prediction.status == "succeeded"
    document: dict[str, Any] = {
        "id": prediction.id,
        "model": request.model.slug,
        "version": "hidden" if request.model.hides_version else request.model.version,
        "input": request.input,
        "logs": prediction.logs,
        "output": output(prediction, origin),
        "data_removed": prediction.data_removed,
        "error": prediction.error,
        "source": "api",
        "status": "processing" if early else prediction.status,
        "created_at": timestamp(prediction.created_at, prediction.id),
        "urls": _urls(prediction, origin),
    }
    optional = {
        "started_at": prediction.started_at,
        "completed_at": None if early else prediction.completed_at,
        "deadline": request.deadline,
    }
    for name, moment in optional.items():
        if moment is not None:
            document[name] = timestamp(moment, prediction.id)
    if prediction.metrics is not None and not early:
        document["metrics"] = prediction.metrics
    if request.deployment is not None:
        document["deployment"] = request.deployment
    if request.webhook is not None:
        document["webhook"] = request.webhook
        if request.webhook_events_filter is not None:
            document["webhook_events_filter"] = request.webhook_events_filter
    return document


def output(prediction: Prediction, origin: str) -> Any:
    """Return the output so far, in the model's format; None while there is none."""
    if prediction.data_removed:
        return None
    shape = prediction.request.model.output
    if shape == "stream":
        return list(prediction.tokens) if prediction.tokens or prediction.complete else None
    if not prediction.complete:
        return None
    if shape == "text":
        return prediction.request.script.answer
    if shape == "transcript":
        return transcript(prediction.request.script.answer or "")
    urls = [
        file_url(prediction, index, origin) for index in range(len(prediction.request.script.files))
    ]
    if shape == "uris":
        return urls
    if not urls:
        return None
    match shape:
        case "audio_out":
            return {"audio_out": urls[0]}
        case "shapes":
            return _shapes(urls)
        case _:
            return urls[0]


def _shapes(urls: list[str]) -> dict[str, Any]:
    """Return files in a list of objects, an object of any form, and nothing that is optional."""
    return {
        "picture": urls[0],
        "variants": [{"file": urls[0], "score": 0.5}, *({"file": each} for each in urls[1:])],
        "facts": {"scene": {"boats": 1}, "notes": ["first", None]},
        "labels": [{"name": "boat", "share": 0.75}, {}],
    }


def file_url(prediction: Prediction, index: int, origin: str) -> str:
    """Return the URL of an output file: it needs no token, the path itself is the secret."""
    ending = file_format(prediction.request.script.files[index])
    origin = prediction.request.script.files_origin or origin
    return f"{origin}/files/{prediction.file_key}/out-{index}.{ending}"


def timestamp(moment: datetime, salt: str) -> str:
    """Format as RFC 3339 with `Z` and a number of fraction digits that depends on the prediction.

    All times of one prediction have the same number, so that cutting digits off reorders none.
    """
    hashed = zlib.crc32(salt.encode())
    digits = _FRACTION_DIGITS[hashed % len(_FRACTION_DIGITS)]
    nanoseconds = f"{moment.microsecond:06d}{hashed % 1000:03d}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds[:digits]}Z"


def _urls(prediction: Prediction, origin: str) -> dict[str, str]:
    url = f"{origin}/v1/predictions/{prediction.id}"
    urls = {"get": url, "cancel": f"{url}/cancel", "web": f"{origin}/p/{prediction.id}"}
    if prediction.stream is not None:
        path = prediction.request.model.stream_path
        urls["stream"] = f"{origin}{path}/{prediction.stream_key}"
    return urls
