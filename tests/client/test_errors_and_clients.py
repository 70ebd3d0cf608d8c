"""Errors that pass through pickle and copies, and clients used where they were not made."""

import asyncio
import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import grpc
import pytest

from mediagate.v1.generation_pb2 import Generation
from mediagate_client import (
    AsyncClient,
    Client,
    ClientNotUsable,
    InvalidRequest,
    MediagateError,
    RequestTooLarge,
    RunFailed,
    Unauthenticated,
    UnknownArgument,
    Violation,
    WebhookNotVerified,
    media_input,
    user,
)
from mediagate_client.errors import Details, deadline_exceeded, local_invalid_request

from .scripted_server import HeldCall, ScriptedServer
from .stream_events import delta, started

SURROGATE = "\ud800"


class TeamError(RunFailed):
    """A subclass of a user's, with a field and an `__init__` of its own."""

    def __init__(self, team: str) -> None:
        super().__init__(
            Details(
                grpc.StatusCode.FAILED_PRECONDITION,
                "it failed\nbadly",
                "RUN_FAILED",
                {"model": "m"},
                (Violation("f", "d"),),
                1.5,
            )
        )
        self.team = team
        self.generation = Generation(id="gen_1")
        self.request_id = "r-1"


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - of our own


def errors() -> list[MediagateError]:
    caused = TeamError("a")
    caused.__cause__ = local_invalid_request("prompt", "is empty")
    return [
        caused,
        RequestTooLarge(5, 4),
        deadline_exceeded("over"),
        ClientNotUsable("closed"),
        WebhookNotVerified("no"),
        UnknownArgument(Details(grpc.StatusCode.INVALID_ARGUMENT, "no field")),
    ]


@pytest.mark.parametrize(
    "convey",
    [
        pickled,
        copy.copy,
        copy.deepcopy,
        lambda error: pickled(ExceptionGroup("g", [error])).exceptions[0],
    ],
    ids=["pickle", "copy", "deepcopy", "group"],
)
@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_its_journey(
    error: MediagateError, convey: Callable[[MediagateError], Any]
) -> None:
    arrived = convey(error)
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert (str(arrived), repr(arrived)) == (str(error), repr(error))
    assert "\n" not in str(arrived)
    assert repr(arrived.__cause__) == repr(error.__cause__)


def test_an_error_leaves_a_process_pool() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        error = pool.submit(media_input, b"").exception()
    assert isinstance(error, InvalidRequest)
    assert error.reason == "INVALID_REQUEST"
    assert error.violations == (Violation("media", "the file is empty"),)


@pytest.mark.parametrize("key", ["kéy", "secret\n", SURROGATE, "a b", b"k", 5])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_no_metadata_can_carry(kind: Any, key: Any) -> None:
    with pytest.raises(Unauthenticated) as raised:
        kind(api_key=key)
    assert "secret" not in f"{raised.value} {raised.value!r}"


WRONG: dict[str, Callable[[Client], object]] = {
    "prompt": lambda c: c.generate_text(SURROGATE),
    "no text": lambda c: c.generate_text(b"\xff"),  # type: ignore[arg-type]
    "model": lambda c: c.stream_text("a", model=SURROGATE),
    "labels": lambda c: c.generate_text("a", labels={SURROGATE: "b"}),
    "request_id": lambda c: c.generate_text("a", request_id=SURROGATE),
    "input": lambda c: c.run_model("a/b", input={"x": [SURROGATE]}),
    "keyword": lambda c: c.generate_text("a", nonsense=1),  # type: ignore[call-arg]
    "message": lambda c: c.generate_text(messages=[user(SURROGATE)]),
    "medium": lambda c: c.generate_video("a", first_frame=SURROGATE),
    "medium's link": lambda c: c.generate_video("a", first_frame=f"http://{SURROGATE}"),
    "medium's path": lambda c: c.generate_video("a", first_frame="a\0b"),
    "file": lambda c: c.upload(SURROGATE),
    "media_type": lambda c: c.upload(b"a", media_type=SURROGATE),
    "id": lambda c: c.get(SURROGATE),
    "number": lambda c: c.cancel(5),  # type: ignore[arg-type]
    "wait": lambda c: c.wait("gen_1", wait=float("nan")),
    "rpc_timeout": lambda c: c.generate_text("a", rpc_timeout=float("nan")),
    "page_size": lambda c: list(c.list(page_size=2**40)),
    "tenant": lambda c: c.rotate_webhook_secret(SURROGATE),
    "slug": lambda c: c.model(SURROGATE),
    "plan": lambda c: c.plan("a"),  # type: ignore[arg-type]
    "link to read": lambda c: list(c.read_media("https://a/b")),
    "path to read": lambda c: list(c.read_media(SURROGATE)),
    "download": lambda c: c.download("https://a/b", f"{SURROGATE}"),
    "download of a link": lambda c: c.download("http://[", "x"),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_has_a_typed_error(client: Client, call: Callable[[Client], object]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        call(client)
    str(raised.value).encode()
    assert pickled(raised.value).violations == raised.value.violations


CALLS: dict[str, Callable[[Any], Any]] = {
    "generate_text": lambda c: c.generate_text("a"),
    "get": lambda c: c.get("gen_1"),
    "wait": lambda c: c.wait("gen_1"),
    "upload": lambda c: c.upload(b"a"),
    "model": lambda c: c.model("m"),
    "get_usage": lambda c: c.get_usage(),
    "redeliver_webhook": lambda c: c.redeliver_webhook("w"),
}
ITERATORS: dict[str, Callable[[Any], Any]] = {
    "stream_text": lambda c: c.stream_text("a"),
    "watch": lambda c: c.watch("gen_1"),
    "list": lambda c: c.list(),
    "read_media": lambda c: c.read_media("gen_1/0"),
}


def test_a_closed_client_says_so(scripted_server: ScriptedServer) -> None:
    client = Client(scripted_server.target)
    client.close()
    for call in CALLS.values():
        with pytest.raises(ClientNotUsable):
            call(client)
    for iterate in ITERATORS.values():
        with pytest.raises(ClientNotUsable):
            list(iterate(client))


async def test_a_closed_client_of_asyncio_says_so(scripted_server: ScriptedServer) -> None:
    client = AsyncClient(scripted_server.target)
    await client.close()
    for call in CALLS.values():
        with pytest.raises(ClientNotUsable):
            await call(client)
    for iterate in ITERATORS.values():
        with pytest.raises(ClientNotUsable):
            [piece async for piece in iterate(client)]


def test_a_client_made_without_a_loop_is_used_in_several(scripted_server: ScriptedServer) -> None:
    client = AsyncClient(scripted_server.target)
    assert copy.deepcopy(client) is client
    with pytest.raises(ClientNotUsable):
        pickle.dumps(client)
    for _ in range(2):
        with pytest.raises(MediagateError) as raised:
            asyncio.run(client.get("gen_none"))
        assert not isinstance(raised.value, ClientNotUsable)
    with pytest.raises(ClientNotUsable):
        client.get("gen_1").send(None)


async def test_a_text_that_is_dropped_is_cancelled(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """Nobody closes it: the loop is left, and nothing refers to the stream any more."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    async for _ in async_client.stream_text("Why?"):
        break
    assert await asyncio.to_thread(scripted_server.cancelled.get, timeout=20) == "gen-1"
    assert await asyncio.to_thread(scripted_server.left.get, timeout=20) == "StreamText"


def test_a_blocking_text_that_is_dropped_is_cancelled(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """So is that of the blocking client."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    for _ in client.stream_text("Why?"):
        break
    assert scripted_server.cancelled.get(timeout=20) == "gen-1"
    assert scripted_server.left.get(timeout=20) == "StreamText"


def test_a_detached_text_that_is_dropped_runs_on(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """The rpc ends; the generation is nobody's to cancel."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    with client.stream_text("Why?", on_disconnect="detach") as stream:
        assert next(stream) == "so"
    assert scripted_server.left.get(timeout=20) == "StreamText"
    assert scripted_server.cancelled.empty()
