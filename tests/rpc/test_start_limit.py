"""So many paid calls of one tenant are begun at once; another's are begun beside them."""

import asyncio

import pytest

from mediagate_server.loop_share import LoopShare
from mediagate_server.services.start_limit import APART, StartLimit


async def test_each_tenant_has_places_of_its_own() -> None:
    """A burst of one waits in its order; whoever of another comes then begins at once."""
    limit, leave = StartLimit(LoopShare(), 2), asyncio.Event()
    inside: list[str] = []

    async def begin(name: str) -> None:
        async with limit.place(name[0]):
            inside.append(name)
            await leave.wait()

    burst = [asyncio.create_task(begin(f"a{number}")) for number in range(5)]
    await asyncio.sleep(0)
    other = asyncio.create_task(begin("b0"))
    await asyncio.sleep(0)
    assert inside == ["a0", "a1", "b0"]
    burst[2].cancel()
    leave.set()
    await asyncio.gather(*burst, other, return_exceptions=True)
    assert inside == ["a0", "a1", "b0", "a3", "a4"]


async def test_starts_are_apart_while_others_are_there() -> None:
    """The clock stands: each start adds to what the next one waits for."""
    share = LoopShare(lambda: 100.0)
    limit = StartLimit(share)
    share.see("a")
    async with limit.place("a"):
        assert share.delay("a") == 0
    share.see("b")
    async with limit.place("a"):
        assert share.delay("a") == pytest.approx(APART)
    assert share.delay("b") == 0
