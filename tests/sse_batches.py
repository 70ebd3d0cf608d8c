"""Streams of events for tests: made of batches, and read to their `done`."""

from collections.abc import AsyncIterator

from mediagate_server.upstream.port import DoneEvent, EventSink, EventStream, StreamEvent


class SseBatches(EventStream):
    """What an upstream of a test sends."""

    def __init__(self, batches: AsyncIterator[tuple[StreamEvent, ...]]) -> None:
        self._batches = batches

    async def forward_to(self, take: EventSink) -> None:
        """See port.EventStream."""
        async for batch in self._batches:
            if take(batch):
                return


class BatchCollector:
    """Takes all batches, up to the one that holds `done`."""

    def __init__(self) -> None:
        self.batches: list[tuple[StreamEvent, ...]] = []

    def __call__(self, batch: tuple[StreamEvent, ...]) -> bool:
        """See port.EventSink."""
        self.batches.append(batch)
        return any(isinstance(each, DoneEvent) for each in batch)

    @property
    def events(self) -> list[StreamEvent]:
        """All of them, in order."""
        return [each for batch in self.batches for each in batch]


async def collect_batches(stream: EventStream) -> BatchCollector:
    """All that a stream gives."""
    collector = BatchCollector()
    await stream.forward_to(collector)
    return collector
