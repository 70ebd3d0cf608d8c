"""Each service is registered once: of two alike gRPC takes one, and says nothing."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from mediagate_sandbox.server import Sandbox
from mediagate_server.api.service_registration import SERVICES

from .stubs import OpenServer


async def test_each_service_is_registered_once(
    sandbox: Sandbox, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the contract's, and health and reflection."""
    registered: Counter[str] = Counter()
    server: Any = type(grpc.aio.server())
    register = server.add_generic_rpc_handlers

    def noted(self: Any, handlers: Sequence[grpc.ServiceRpcHandler]) -> None:
        registered.update(str(handler.service_name()) for handler in handlers)
        register(self, handlers)

    monkeypatch.setattr(server, "add_generic_rpc_handlers", noted)
    async with open_server(sandbox.url):
        pass
    assert set(registered.values()) == {1}
    assert set(SERVICES) < set(registered)
