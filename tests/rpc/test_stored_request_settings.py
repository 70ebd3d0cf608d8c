"""How much of a request is stored, beside tenants: a tenant's own word, else that of all."""

import pytest

from mediagate.v1 import generations_pb2
from mediagate.v1.generations_pb2 import GetGenerationResponse
from mediagate_sandbox.server import Sandbox
from mediagate_server.config.tenants import StoreInputs
from tests.builders import text_request

from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

PROMPT = "a heron in the reeds, told in five words"

FULL = PROMPT
REDACTED = f"[{len(PROMPT)} characters]"


@pytest.mark.parametrize(
    ("for_all", "own", "expected"),
    [
        ("full", None, FULL),
        ("redacted", None, REDACTED),
        ("none", None, ""),
        ("full", "none", ""),
        ("full", "redacted", REDACTED),
        ("none", "full", FULL),
    ],
)
async def test_a_tenants_setting_overrides_the_global_one(
    sandbox: Sandbox, open_server: OpenServer, for_all: str, own: StoreInputs | None, expected: str
) -> None:
    """A tenant that says nothing is stored as all are; one that does, as it says."""
    acme = tenant("acme") if own is None else tenant("acme", store_inputs=own)
    async with (
        open_server(sandbox.url, tenants=(acme,), store_inputs=for_all) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        stubs = Stubs.on(channel)
        response = await stubs.text.GenerateText(text_request(prompt=PROMPT))
        answer: GetGenerationResponse = await stubs.generations.GetGeneration(
            generations_pb2.GetGenerationRequest(id=response.generation.id)
        )
    assert answer.request.generate_text.prompt == expected
    assert answer.HasField("request") is bool(expected)
