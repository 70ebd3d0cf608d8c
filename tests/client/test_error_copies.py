"""Errors that are pickled, copied and sent between processes."""

import asyncio
import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import grpc
import pytest

from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.text_pb2 import GenerateTextRequest
from mediagate_client import errors
from mediagate_client.errors import Details, InvalidRequest, MediagateError, Violation
from mediagate_client.requests import billable_request

DETAILS = Details(
    code=grpc.StatusCode.RESOURCE_EXHAUSTED,
    message="the budget\nis used up",
    reason="BUDGET_EXCEEDED",
    metadata={"scope": "tenant"},
    violations=(Violation("budget", "10 USD a day"),),
    retry_after=2.5,
)
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MediagateError)
]


def pickled(value: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))  # noqa: S301 - of our own


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": pickled,
    "oldest pickle": lambda error: pickled(error, 0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "in a group": lambda error: pickled(ExceptionGroup("", [error])).exceptions[0],
}


class OwnError(errors.NotFound):
    """A user's subclass, whose constructor takes something else."""

    def __init__(self, name: str) -> None:
        super().__init__(Details(grpc.StatusCode.NOT_FOUND, f"no {name}"))
        self.name = name


def error_of(kind: type[MediagateError]) -> MediagateError:
    error: MediagateError
    if kind is errors.RequestTooLarge:
        error = errors.RequestTooLarge(5, 4)
    elif kind in (errors.ClientNotUsable, errors.WebhookNotVerified):
        error = kind("it is so")
    else:
        error = kind(DETAILS)
    error.generation = Generation(id="gen_1")
    error.request_id = "r"
    error.add_note("while it was tried")
    error.__cause__ = errors.local_invalid_request("prompt", "is empty")
    return error


def assert_same(copied: MediagateError, error: MediagateError) -> None:
    assert type(copied) is type(error)
    assert (copied.args, copied.__dict__) == (error.args, error.__dict__)
    assert str(copied) == str(error)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_equal(kind: type[MediagateError], way: str) -> None:
    """Each class, with its details, generation, request_id, notes and cause, on one line."""
    error = error_of(kind)
    copied = COPIES[way](error)
    assert_same(copied, error)
    assert repr(copied.__cause__) == repr(error.__cause__)
    assert "\n" not in str(error)


@pytest.mark.parametrize("way", COPIES)
def test_copies_of_a_subclass(way: str) -> None:
    """Its constructor is not called again."""
    assert_same(COPIES[way](OwnError("model")), OwnError("model"))


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process of its own, which shares nothing."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


async def test_errors_of_a_process_pool(pool: ProcessPoolExecutor) -> None:
    """The error arrives whole, by threads' futures and by asyncio's, and the pool goes on."""
    task = partial(billable_request, GenerateTextRequest, "x", {"temperature": "hot"})
    with pytest.raises(InvalidRequest) as here:
        task()
    with pytest.raises(InvalidRequest) as there:
        pool.submit(task).result()
    assert_same(there.value, here.value)
    with pytest.raises(InvalidRequest):
        await asyncio.get_running_loop().run_in_executor(pool, task)
