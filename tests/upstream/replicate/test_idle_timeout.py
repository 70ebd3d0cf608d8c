"""Streams that are silent for too long are found, and those that speak are not."""

import asyncio

from mediagate_server.upstream.replicate.sse_stream import IdleStreamMonitor


class Stream:
    """Implements silence.Listening. `timed_out`: it was told that it is idle."""

    def __init__(self) -> None:
        self.last = asyncio.get_running_loop().time()
        self.timed_out = asyncio.Event()

    def on_idle_timeout(self) -> None:
        self.timed_out.set()


def pending() -> int:
    """How many timers the silence of streams has set."""
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not timer.cancelled() for timer in timers)


async def test_only_idle_streams_time_out() -> None:
    silence, quiet, speaking = IdleStreamMonitor(0.2), Stream(), Stream()
    silence.watch(quiet)
    silence.watch(speaking)
    speaking.last += 3_600
    await asyncio.wait_for(quiet.timed_out.wait(), 30)
    assert not speaking.timed_out.is_set()


async def test_a_removed_stream_does_not_time_out() -> None:
    silence, gone, quiet = IdleStreamMonitor(0.1), Stream(), Stream()
    silence.watch(gone)
    silence.watch(quiet)
    silence.forget(gone)
    await asyncio.wait_for(quiet.timed_out.wait(), 30)
    assert not gone.timed_out.is_set()


async def test_all_streams_share_one_timer() -> None:
    silence, streams = IdleStreamMonitor(60), [Stream() for _ in range(5)]
    for stream in streams:
        silence.watch(stream)
    assert pending() == 1
    for stream in streams:
        silence.forget(stream)
        silence.forget(stream)
    assert pending() == 0
