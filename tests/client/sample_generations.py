"""Generations as a server shows them."""

import grpc

from mediagate.v1.cost_pb2 import COST_STATE_SETTLED, Cost
from mediagate.v1.generation_pb2 import Generation, TextOutput

from .rpc_statuses import status

COST = Cost(usd_nanos=40_000_000, state=COST_STATE_SETTLED)
RUNNING = Generation(id="gen-1", state=Generation.STATE_RUNNING)
DONE = Generation(
    id="gen-1",
    state=Generation.STATE_SUCCEEDED,
    text=TextOutput(text="because"),
    cost=COST,
)
FAILED = Generation(
    id="gen-1",
    state=Generation.STATE_FAILED,
    error=status(grpc.StatusCode.FAILED_PRECONDITION, "RUN_FAILED", "the model ran and failed"),
    cost=COST,
)
CANCELLED = Generation(
    id="gen-1",
    state=Generation.STATE_CANCELLED,
    error=status(grpc.StatusCode.CANCELLED, "CANCELLED", "it was cancelled"),
)
