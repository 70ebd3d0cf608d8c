"""Shows a prediction as the JSON object Replicate answers with.

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
    """The prediction object.

    `handed_over` shows a finished run the way a synchronous create does: all output, but still
    `processing`, without `completed_at` or `metrics`.
    """
    order = prediction.order
    early = handed_over and prediction.status == "succeeded"
    document: dict[str, Any] = {
        "id": prediction.id,
        "model": order.model.slug,
        "version": "hidden" if order.model.official else order.model.version,
        "input": order.input,
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
        "deadline": order.deadline,
    }
    for name, moment in optional.items():
        if moment is not None:
            document[name] = timestamp(moment, prediction.id)
    if prediction.metrics is not None and not early:
        document["metrics"] = prediction.metrics
    if order.deployment is not None:
        document["deployment"] = order.deployment
    if order.webhook is not None:
        document["webhook"] = order.webhook
        if order.webhook_events_filter is not None:
            document["webhook_events_filter"] = order.webhook_events_filter
    return document


def output(prediction: Prediction, origin: str) -> Any:
    """The output so far, in the model's shape; None while there is none."""
    if prediction.data_removed:
        return None
    shape = prediction.order.model.output
    if shape == "stream":
        return list(prediction.tokens) if prediction.tokens or prediction.complete else None
    if not prediction.complete:
        return None
    if shape == "text":
        return prediction.order.plan.answer
    if shape == "transcript":
        return transcript(prediction.order.plan.answer or "")
    urls = [
        file_url(prediction, index, origin) for index in range(len(prediction.order.plan.files))
    ]
    if shape == "uris":
        return urls
    if not urls:
        return None
    match shape:
        case "audio_out":
            return {"audio_out": urls[0]}
        case _:
            return urls[0]


def file_url(prediction: Prediction, index: int, origin: str) -> str:
    """Where one output file can be read, without a token: the path itself is the secret."""
    ending = file_format(prediction.order.plan.files[index])
    origin = prediction.order.plan.files_origin or origin
    return f"{origin}/files/{prediction.file_key}/out-{index}.{ending}"


def timestamp(moment: datetime, salt: str) -> str:
    """RFC 3339 with `Z` and a number of fraction digits that depends on the prediction.

    All times of one prediction have the same number, so that cutting digits off reorders none.
    """
    drawn = zlib.crc32(salt.encode())
    digits = _FRACTION_DIGITS[drawn % len(_FRACTION_DIGITS)]
    nanoseconds = f"{moment.microsecond:06d}{drawn % 1000:03d}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds[:digits]}Z"


def _urls(prediction: Prediction, origin: str) -> dict[str, str]:
    place = f"{origin}/v1/predictions/{prediction.id}"
    urls = {"get": place, "cancel": f"{place}/cancel", "web": f"{origin}/p/{prediction.id}"}
    if prediction.stream is not None:
        urls["stream"] = f"{origin}/v1/streams/{prediction.stream_key}"
    return urls
