"""Request plan: an optional prompt screening, then a fallback chain, and their total estimate.
Pure.

Prompt screening is a check by the operator's safety model, planned like any other run. Every text
that can reach the model is judged, as one turn: of a conversation all turns, whoever is said to
have written them, because what is harmless alone may not be so as the answer to "go on". Left out
are links where the model's own schema takes links, and media that are no text.
"""

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from mediagate_server.catalog.parameters.contract_fields import FIELDS, FieldKind
from mediagate_server.catalog.planning.fallback import FallbackChain
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import Estimate
from mediagate_server.catalog.request import (
    InlineSource,
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    ResponseFormat,
    RunRequest,
)
from mediagate_server.catalog.schemas.openapi import ANY_STEP, OutputPath
from mediagate_server.errors import InvalidRequest, MaxCostExceeded, PriceUnknown
from mediagate_server.structs import replace

PlannedRequest = TypeVar("PlannedRequest", ModelRequest, RunRequest)
MAX_SCREENED_CHARACTERS: Final = 100_000
"""Maximum text for a safety model. More is rejected: it would not be judged."""
NO_TEXT_TO_SCREEN: Final = "the request has no text that a safety model could read"
_FREE_TEXT_WORDS: Final = frozenset({"voice", "language"})
"""Parameters that are usually one word, but free text of callers."""
_COMMON_KEYS: Final = frozenset(
    {"role", "content", "type", "text", "parts", "name", "url", "image", "image_url"}
)
"""Common keys of objects in a model's input, which carry no text of callers."""
_LINK: Final = re.compile(r"(?:https?://|data:)[!-~]+")
_DATA: Final = "data:"
_LONG_NAME: Final = 32
"""Length from which an input's name may carry text."""


class RequestPlan(Struct, frozen=True):
    """Plan of a whole request: fallback chain and screening.

    `screening_plan` is the check that runs first; None where there is none. `not_screened` says why
    there is none although one was requested. Admission, estimates and the runs use the same plan,
    so they cannot disagree.
    """

    fallback_chain: FallbackChain
    screening_plan: Plan | None = None
    not_screened: str = ""

    @property
    def plan(self) -> Plan:
        """The first plan of the chain."""
        return self.fallback_chain.plans[0]

    @property
    def is_assumed(self) -> bool:
        """Whether a price of the estimate is an assumed one."""
        screening = () if self.screening_plan is None else (self.screening_plan,)
        return any(plan.price.assumed for plan in (*screening, *self.fallback_chain.plans))

    @property
    def estimate(self) -> Estimate:
        """Sum over screening, every output and every fallback."""
        chain = self.fallback_chain.estimate
        if self.screening_plan is None:
            return chain
        screening = self.screening_plan.estimate
        return Estimate(
            _add_amounts(chain.low, screening.low),
            _add_amounts(chain.expected, screening.expected),
            _add_amounts(chain.maximum, screening.maximum),
        )


def add_screening(
    request: PlannedRequest,
    screening: ModelRequest | None,
    plan_screening: Callable[[ModelRequest], Plan],
    plan_chain: Callable[[PlannedRequest], FallbackChain],
) -> RequestPlan:
    """Plan a request with prompt screening by `screening` (see `screening_request`; None: no text).

    The cost of the screening is deducted from the limit of the rest. Raises what the two plans
    raise, and PriceUnknown or MaxCostExceeded where the screening alone exceeds the limit.
    """
    if screening is None:
        return RequestPlan(plan_chain(request), not_screened=NO_TEXT_TO_SCREEN)
    screening_plan = plan_screening(screening)
    if request.max_cost_nanos is None:
        return RequestPlan(plan_chain(request), screening_plan)
    maximum_cost = screening_plan.estimate.maximum
    if maximum_cost is None:
        raise PriceUnknown(
            f"what {screening_plan.slug} may cost is not known",
            metadata={"model": screening_plan.slug},
        )
    remaining = request.max_cost_nanos - maximum_cost
    if remaining < 0:
        raise _cost_limit_exceeded(screening_plan, maximum_cost, request.max_cost_nanos)
    try:
        chain = plan_chain(replace(request, max_cost_nanos=remaining))
    except MaxCostExceeded as error:
        # The error names the caller's limit, not the remainder.
        maximum = error.failure.metadata.get("maximum_usd_nanos", "0")
        raise _cost_limit_exceeded(
            screening_plan, maximum_cost + int(maximum), request.max_cost_nanos
        ) from error
    return RequestPlan(chain, screening_plan)


def screening_request(
    request: ModelRequest | RunRequest, link_paths: Collection[OutputPath] = ()
) -> ModelRequest | None:
    """Screening request for the text of `request`; None where it has no text.

    `link_paths` are the paths of the inputs that hold links, by the model's schema. The screening
    names no model: it is planned with the default safety model, without a `max_cost_nanos` of its
    own, because the limit is on the sum. Raises InvalidRequest where the text is longer than
    MAX_SCREENED_CHARACTERS.
    """
    if isinstance(request, RunRequest):
        texts = [*_run_texts(request, link_paths)]
    else:
        texts = [
            *_parameter_texts(request),
            *_input_texts(request.model_parameters, (), link_paths),
        ]
    content = "\n\n".join(text for text in texts if text.strip())
    if not content:
        return None
    if len(content) > MAX_SCREENED_CHARACTERS:
        raise InvalidRequest.of(
            "options.screen_prompt",
            f"cannot be set for more than {MAX_SCREENED_CHARACTERS:,} characters of text in all",
        )
    return ModelRequest(Modality.SAFETY, "", {"content": content})


def _parameter_texts(request: ModelRequest) -> Iterator[str]:
    """Texts of the contract's own fields."""
    if request.modality is Modality.SAFETY:
        return
    kinds = FIELDS[request.modality]
    for name, value in request.parameters.items():
        is_text = kinds.get(name) is FieldKind.FREE_TEXT or name in _FREE_TEXT_WORDS
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Message):
                yield item.text
                yield from _media_texts(part for part in item.parts if not isinstance(part, str))
            elif isinstance(item, MediaInput):
                yield from _media_texts((item,))
            elif isinstance(item, ResponseFormat):
                yield from _input_texts(item.schema, (), ())
            elif isinstance(item, str) and (is_text or kinds.get(name) is FieldKind.STRINGS):
                yield item


def _run_texts(request: RunRequest, link_paths: Collection[OutputPath]) -> Iterator[str]:
    """Texts of a run by a model's own inputs."""
    yield from _input_texts(request.input, (), link_paths)
    for name, media in request.media.items():
        if (name,) not in link_paths and (name, ANY_STEP) not in link_paths:
            uris = (medium.uri for medium in media if medium.source is None)
            yield from (uri for uri in uris if not uri.startswith(_DATA))
        yield from _media_texts(media)


def _input_texts(value: Any, path: OutputPath, link_paths: Collection[OutputPath]) -> Iterator[str]:
    """Every string of a model's own input, which may be a prompt whatever its name."""
    if isinstance(value, str):
        if path in link_paths and _LINK.fullmatch(value):
            yield from _data_texts(value)
        else:
            yield value
            yield from _data_texts(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if (path or len(key) > _LONG_NAME) and key not in _COMMON_KEYS:
                yield key
            inner = (*path, key)
            if inner not in link_paths and (*path, ANY_STEP) in link_paths:
                inner = (*path, ANY_STEP)
            yield from _input_texts(item, inner, link_paths)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _input_texts(item, (*path, ANY_STEP), link_paths)


def _media_texts(media: Iterator[MediaInput] | tuple[MediaInput, ...]) -> Iterator[str]:
    """Text files among inline media."""
    for medium in media:
        if isinstance(medium.source, InlineSource):
            yield from _decode_text(medium.source.data, medium.source.media_type)
        else:
            yield from _data_texts(medium.uri)


def _data_texts(uri: str) -> Iterator[str]:
    """The text of a data URI."""
    if uri[: len(_DATA)].casefold() != _DATA:
        return
    head, _, content = uri[len(_DATA) :].partition(",")
    data = unquote_to_bytes(content)
    if head.casefold().endswith(";base64"):
        try:
            data = base64.b64decode(data + b"==")  # Other decoders do not require padding.
        except binascii.Error:
            return  # Not decodable by anybody.
    yield from _decode_text(data, head.partition(";")[0].casefold() or "text/plain")


def _decode_text(data: bytes, media_type: str) -> Iterator[str]:
    """A file as text, where it is one: by its content, or else by its declared type."""
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError:
        if not media_type.startswith("text/"):
            return
        text = data.decode(errors="replace")
    yield text.replace("\0", "")


def _cost_limit_exceeded(screening: Plan, maximum: int, limit: int) -> MaxCostExceeded:
    return MaxCostExceeded(
        "a call and its screening may cost more than max_cost_usd_nanos",
        metadata={
            "screening_model": screening.slug,
            "maximum_usd_nanos": str(maximum),
            "max_cost_usd_nanos": str(limit),
        },
    )


def _add_amounts(first: int | None, second: int | None) -> int | None:
    """Sum; None (unknown) where either is."""
    return None if first is None or second is None else first + second
