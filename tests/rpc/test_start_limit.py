"""So many paid calls of one tenant are begun at once; another's are begun beside them."""

import asyncio

from mediagate_server.services.start_limit import StartLimit


async def test_each_tenant_has_places_of_its_own() -> None:
    """A burst of one waits in its order; whoever of another comes then begins at once."""
    limit, leave = StartLimit(2), asyncio.Event()
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
