"""Failures of generations: what callers are told of each kind of end. Pure."""

from typing import Final
from urllib.parse import urlsplit

from mediagate_server.errors import (
    ContentBlocked,
    DeadlineExceeded,
    Failure,
    GenerationCancelled,
    GenerationQuarantined,
    InputRejected,
    MediagateError,
    ModelRetired,
    OutputInvalid,
    OutputLost,
    OutputTooLarge,
    Reason,
    RunFailed,
    StreamInterrupted,
    UpstreamAccountError,
    UpstreamUnavailable,
    Violation,
)
from mediagate_server.generations.transitions.content_refusals import (
    RunFailureKind,
    classify_failure,
)
from mediagate_server.upstream.documents.json_parser import MAX_DEPTH
from mediagate_server.upstream.port import Prediction, RefusalReason, RequestRefused

_PAGES: Final = "replicate.com"
_LONGEST_PAGE: Final = 512
_UNCLEAR: Final = "may_be_content_refusal"
"""In the metadata of a failure that may have been a refusal of the content."""
_LEGAL_REASONS: Final = 451


def refused_failure(refused: RequestRefused, model: str) -> Failure:
    """Callers' message where Replicate accepted none of the attempts; never upstream's words."""
    metadata = {"model": model}
    meaning = classify_failure(refused.error)
    if meaning is RunFailureKind.REFUSAL or refused.http_status == _LEGAL_REASONS:
        return _content_refused(model)
    error: MediagateError
    match refused.refusal:
        case RefusalReason.INPUT:
            fields = refused.invalid_fields or {"": "refused by the model"}
            error = InputRejected(
                *(
                    Violation(f"input.{name}" if name else "input", description)
                    for name, description in fields.items()
                )
            )
        case RefusalReason.NOT_FOUND:
            error = ModelRetired("upstream does not have this model", metadata=metadata)
        case RefusalReason.ACCOUNT:
            error = UpstreamAccountError(
                "upstream refuses the server's account", metadata=metadata, retry_after=60.0
            )
        case RefusalReason.THROTTLED:
            error = UpstreamUnavailable(
                "upstream takes no more requests now",
                metadata=metadata,
                retry_after=refused.retry_after or 10.0,
            )
        case RefusalReason.UNREACHABLE:
            error = UpstreamUnavailable.unreachable(metadata)
        case RefusalReason.OTHER:
            if meaning is RunFailureKind.UNCLEAR:
                metadata[_UNCLEAR] = "true"
            error = RunFailed("upstream refused the request", metadata=metadata)
    return error.failure


def as_non_retryable(failure: Failure, model: str) -> Failure:
    """The failure of a generation of which upstream took something: never one to send again for."""
    if failure.retry_after is None:
        return failure
    return RunFailed(
        "no model could finish it: the last ones were not taken", metadata={"model": model}
    ).failure


def input_lost() -> Failure:
    """It was never sent, and what was to be sent is lost with the key that sealed it."""
    return UpstreamUnavailable("what was to be sent is not known any more", retry_after=1.0).failure


def never_accepted() -> Failure:
    """Proven: upstream never got the create, and there is no time or try left for another."""
    return UpstreamUnavailable("upstream never got the request", retry_after=1.0).failure


def run_failed(model: str, prediction_id: str) -> Failure:
    """The model failed. Upstream's text may hold anything, so it is not passed on."""
    metadata = {"model": model, "prediction": prediction_id}
    return RunFailed("the model failed", metadata=metadata).failure


def model_failed(model: str, end: Prediction) -> Failure:
    """Failure of a run that ended as failed: a refusal of the content, perhaps one, or neither."""
    match classify_failure(end.error, end.logs):
        case RunFailureKind.REFUSAL:
            return _content_refused(model, end.id)
        case RunFailureKind.UNCLEAR:
            metadata = {"model": model, "prediction": end.id, _UNCLEAR: "true"}
            words = "the model failed, and may have refused the content"
            return RunFailed(words, metadata=metadata).failure
        case RunFailureKind.OTHER:
            return run_failed(model, end.id)


def is_content_failure(failure: Failure) -> bool:
    """Whether the content was refused, or may have been: then no other model is asked."""
    return failure.reason is Reason.CONTENT_BLOCKED or _UNCLEAR in failure.metadata


def _content_refused(model: str, prediction_id: str = "") -> Failure:
    metadata = {"model": model, "by": "model"}
    if prediction_id:
        metadata["prediction"] = prediction_id
    return ContentBlocked("the model refused the content", metadata=metadata).failure


def output_invalid(model: str, prediction_id: str, problem: str) -> Failure:
    """The answer is not the JSON that was asked for. `problem` is in our own words."""
    metadata = {"model": model, "prediction": prediction_id, "problem": problem}
    return OutputInvalid("the answer is not the JSON that was asked for", metadata=metadata).failure


def output_too_deep(model: str, prediction_id: str) -> Failure:
    """What it made is nested deeper than is read."""
    metadata = {"model": model, "prediction": prediction_id, "problem": "it is nested too deep"}
    return OutputInvalid(
        f"the output is nested deeper than {MAX_DEPTH} levels", metadata=metadata
    ).failure


def output_too_large(model: str, end: Prediction, cause: str) -> Failure:
    """More was made than is kept, or than can be read. `cause` is in our own words.

    Whoever has the account upstream finds it there.
    """
    metadata = {"model": model, "prediction": end.id, "cause": cause}
    if is_prediction_page(end.web_url):
        metadata["prediction_url"] = end.web_url
    return OutputTooLarge(f"the output cannot be kept: {cause}", metadata=metadata).failure


def output_lost(model: str, end: Prediction) -> Failure:
    """It succeeded, so it may be paid, and what it made is not there to be had."""
    if end.data_removed:
        cause = "upstream has removed it"
    elif end.output in (None, "", [], {}):
        cause = "upstream's answer has none"
    else:
        cause = "there is none of its kind in upstream's answer"
    metadata = {"model": model, "prediction": end.id, "cause": cause}
    if is_prediction_page(end.web_url):
        metadata["prediction_url"] = end.web_url
    return OutputLost(
        f"the run succeeded and its output is lost: {cause}", metadata=metadata
    ).failure


def prediction_lost(model: str, prediction_id: str) -> Failure:
    """Upstream has it no more: whether it ended, what it made and what it cost, nobody can say."""
    cause = "upstream no longer knows the prediction"
    metadata = {"model": model, "prediction": prediction_id, "cause": cause}
    return OutputLost(f"the run is lost: {cause}", metadata=metadata).failure


def output_missing(model: str, end: Prediction) -> Failure:
    """It made fewer than were asked for, or said that one of them is not there."""
    cause = "upstream's answer has none at its place"
    metadata = {"model": model, "prediction": end.id, "cause": cause}
    return OutputLost(f"the output is missing: {cause}", metadata=metadata).failure


def is_prediction_page(url: str) -> bool:
    """Whether that is a page of upstream's, and nothing besides its address is told by it."""
    if len(url) > _LONGEST_PAGE or not url.isascii() or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    is_plain = "@" not in parts.netloc and not parts.query and not parts.fragment and port is None
    is_upstreams = host == _PAGES or host.endswith(f".{_PAGES}")
    return parts.scheme == "https" and is_plain and is_upstreams and host != f"api.{_PAGES}"


def quarantine_failure(model: str, cause: str) -> Failure:
    """Handling its output has done harm. `cause` is one of our own words."""
    metadata = {"model": model, "cause": cause}
    return GenerationQuarantined(f"the output is passed over: {cause}", metadata=metadata).failure


def text_lost(model: str) -> Failure:
    """The stream broke and upstream no longer holds the whole text."""
    return StreamInterrupted(
        "the text was cut and upstream does not have the rest", metadata={"model": model}
    ).failure


def deadline_passed(timeout: float) -> Failure:
    """The generation's own time is over."""
    return DeadlineExceeded(
        "the timeout was over before the end", metadata={"timeout": f"{timeout:g}"}
    ).failure


def cancelled_failure(why: str) -> Failure:
    """`why` is one of our own words."""
    return GenerationCancelled(f"cancelled: {why}", metadata={"cause": why}).failure
