"""Outputs that cannot be kept for a while, by a clock that is stepped."""

from google.protobuf.duration_pb2 import Duration
from pydantic import SecretStr

from mediagate.v1 import generation_pb2, options_pb2
from tests.builders import image_request

from .fake_clocks import SteppedClock
from .generation_waits import get_generation
from .stubs import Stubs

PICTURE = image_request(
    prompt="x",
    wait=Duration(nanos=1),
    model="flux-schnell",
    on_disconnect=options_pb2.ON_DISCONNECT_DETACH,
)
HALF_LIFETIME = 1_800
OUTAGE = 1_080
"""Seconds: 30 % of the life of a source."""


def storage(s3: str, name: str) -> dict[str, object]:
    """The settings of a server that keeps media there."""
    return {
        "storage_url": f"s3://{name}/media",
        "storage_endpoint": s3,
        "storage_access_key_id": SecretStr("an-id"),
        "storage_secret_access_key": SecretStr("a-secret"),
    }


async def count_unarchived(stubs: Stubs, names: list[str]) -> int:
    """How many are not at their end."""
    done = generation_pb2.Generation.STATE_SUCCEEDED
    return sum([(await get_generation(stubs, name)).state != done for name in names])


async def wait_until_asleep(stubs: Stubs, clock: SteppedClock, names: list[str]) -> int:
    """Until each of them is kept or waits for its next try; how many wait."""
    while clock.sleeping != (left := await count_unarchived(stubs, names)):
        pass
    return left
