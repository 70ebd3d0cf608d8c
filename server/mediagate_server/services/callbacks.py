"""What a webhook says: the event as the contract has it, in proto JSON."""

from typing import Final

from google.protobuf import json_format

from mediagate.v1 import webhook_pb2
from mediagate_server.outputs.links import MediaLinks
from mediagate_server.services import shown
from mediagate_server.store.outbox import Callback, EventKind
from mediagate_server.store.records import Generation

_TYPES: Final = {
    kind: webhook_pb2.WebhookEventType.Value(f"WEBHOOK_EVENT_TYPE_{kind.name}")
    for kind in EventKind
}


class EventTexts:
    """Writes events. Links to what is kept are minted anew for each try."""

    def __init__(self, links: MediaLinks) -> None:
        self._links = links

    async def render(self, callback: Callback, record: Generation | None) -> bytes:
        """The body of a webhook: what happened, and the generation as it stands now."""
        event = webhook_pb2.WebhookEvent(type=_TYPES[callback.kind])
        event.time.FromDatetime(callback.happened_at)
        if record is not None:
            event.generation.CopyFrom(shown.generation(record, await self._links.of(record)))
        if callback.kind is EventKind.BUDGET_THRESHOLD:
            json_format.ParseDict(dict(callback.facts), event.budget)
        return json_format.MessageToJson(event, indent=None, ensure_ascii=False).encode()
