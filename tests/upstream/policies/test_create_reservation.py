"""A reservation that is let go of is given back in the loop's thread, wherever that happens."""

import asyncio
import threading

from mediagate_server.upstream.port import CreateReservation


async def test_a_reservation_collected_on_another_thread_is_released_by_the_loop() -> None:
    given_back: asyncio.Queue[int] = asyncio.Queue()
    reservations = [
        CreateReservation(lambda: None, lambda: given_back.put_nowait(threading.get_ident()))
    ]
    await asyncio.to_thread(reservations.clear)
    assert await asyncio.wait_for(given_back.get(), 30) == threading.get_ident()


async def test_a_reservation_is_released_once() -> None:
    given_back: list[None] = []
    turn = CreateReservation(lambda: None, lambda: given_back.append(None))
    turn.release()
    reservations = [turn]
    del turn
    await asyncio.to_thread(reservations.clear)
    await asyncio.sleep(0)
    assert len(given_back) == 1


def test_a_reservation_may_outlive_its_loop() -> None:
    async def reserve() -> list[CreateReservation]:
        return [CreateReservation(lambda: None, lambda: None)]

    asyncio.run(reserve()).clear()
