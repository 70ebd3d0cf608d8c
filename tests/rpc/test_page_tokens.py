"""Page tokens are signed: what this server has not given out for this very list is refused."""

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import grpc

from mediagate.v1 import admin_pb2, generations_pb2, models_pb2, usage_pb2
from mediagate.v1.generation_pb2 import GENERATION_VIEW_FULL
from mediagate.v1.modality_pb2 import MODALITY_IMAGE, MODALITY_TEXT
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

TENANTS = (tenant("boss", admin=True), tenant("mine"), tenant("other", admin=True))
Listing = tuple[str, Any, Callable[[Stubs], Any]]
LISTS: dict[str, Listing] = {
    "generations": (
        "generations",
        generations_pb2.ListGenerationsRequest(page_size=1),
        lambda stubs: stubs.generations.ListGenerations,
    ),
    "charges": (
        "charges",
        usage_pb2.ListChargesRequest(page_size=1),
        lambda stubs: stubs.usage.ListCharges,
    ),
    "models": (
        "models",
        models_pb2.ListModelsRequest(page_size=1),
        lambda stubs: stubs.models.ListModels,
    ),
    "tenants": (
        "tenants",
        admin_pb2.ListTenantsRequest(page_size=1),
        lambda stubs: stubs.admin.ListTenants,
    ),
}
OTHERWISE: dict[str, tuple[Any, ...]] = {
    "generations": (
        generations_pb2.ListGenerationsRequest(filter={"modality": MODALITY_IMAGE}),  # type: ignore[arg-type]
        generations_pb2.ListGenerationsRequest(view=GENERATION_VIEW_FULL),
    ),
    "charges": (usage_pb2.ListChargesRequest(filter={"models": ["a/b"]}),),  # type: ignore[arg-type]
    "models": (models_pb2.ListModelsRequest(modality=MODALITY_TEXT),),
    "tenants": (),
}


async def opened(
    stack: AsyncExitStack, sandbox: Sandbox, open_server: OpenServer
) -> dict[str, Stubs]:
    """The stubs of each tenant of a server."""
    _, server = await stack.enter_async_context(open_server(sandbox.url, tenants=TENANTS))
    return {
        tenant.id: Stubs.on(
            await stack.enter_async_context(channel_of(server.grpc_address, tenant.id))
        )
        for tenant in TENANTS
    }


async def refuses(call: Any, request: Any, token: str) -> None:
    """The field is named, and it is no error of ours."""
    list_request = type(request)()
    list_request.CopyFrom(request)
    list_request.page_token = token
    error = await rpc_error(call(list_request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, token
    assert reason_of(error) == "INVALID_REQUEST"
    assert fields_of(error) == {"page_token"}


async def test_a_page_token_is_valid_only_for_its_list(
    sandbox: Sandbox, open_server: OpenServer, seed: int
) -> None:
    """Not for another rpc, filter or tenant, nor changed in any place; and after a restart too."""
    print(f"{seed=}")
    tokens: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        stubs = await opened(stack, sandbox, open_server)
        for prompt in ("a", "b"):
            request = image_request(prompt=prompt)
            await stubs["boss"].image.GenerateImage(request)
        for name, (_, request, rpc) in LISTS.items():
            tokens[name] = (await rpc(stubs["boss"])(request)).next_page_token
            assert tokens[name]
        for name, (_, request, rpc) in LISTS.items():
            for token in (*forged(tokens[name], Random(seed)), *others(tokens, name)):
                await refuses(rpc(stubs["boss"]), request, token)
            for other in OTHERWISE[name]:
                await refuses(rpc(stubs["boss"]), other, tokens[name])
            await refuses(rpc(stubs["other"]), request, tokens[name])
    async with AsyncExitStack() as stack:
        stubs = await opened(stack, sandbox, open_server)
        for name, (field, request, rpc) in LISTS.items():
            first = await rpc(stubs["boss"])(request)
            assert first.next_page_token == tokens[name]
            request.page_token = tokens[name]
            second = await rpc(stubs["boss"])(request)
            request.ClearField("page_token")
            assert getattr(second, field)
            assert getattr(second, field) != getattr(first, field)


def others(tokens: dict[str, str], name: str) -> list[str]:
    """Tokens of the other lists."""
    return [token for other, token in tokens.items() if other != name]


POSITIONS: tuple[Any, ...] = ([], [0], [-1], [2**70], ["x", "y"], [None, None], {}, "x", [[], []])


def forged(token: str, random: Random) -> list[str]:
    """A token that was changed, and such as an earlier version gave out, with any position."""
    changed = []
    for _ in range(40):
        index = random.randrange(len(token))
        letter = random.choice("ABCDwxyz0189-_=")
        changed.append(token[:index] + letter + token[index + 1 :])
    raw = base64.urlsafe_b64decode(token)
    forged = [
        base64.urlsafe_b64encode(raw[:16] + json.dumps(position).encode()).decode()
        for position in POSITIONS
    ]
    unsigned = [
        base64.urlsafe_b64encode(json.dumps([scope, position]).encode()).decode()
        for scope in ("", hashlib.sha256(b"").hexdigest()[:16])
        for position in ([2**63, 2**63], ["nowhen", "x"], [-5])
    ]
    odd = [
        "x",
        "=",
        "é",
        "\udcff".encode("utf-8", "replace").decode(),
        " ",
        token + "=",
        token[:-1],
    ]
    odd += [token[::-1], token + token, token.rstrip("="), token + "\n", "A" * 1_000, "A" * 9_999]
    return [
        candidate
        for candidate in (*changed, *forged, *unsigned, *odd)
        if candidate and candidate != token
    ]
