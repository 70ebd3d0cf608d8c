"""Who calls: every method refuses every bad credential, and a tenant is what its key says."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediagate.v1 import admin_pb2, generations_pb2, models_pb2
from mediagate_client import AsyncClient, Unauthenticated
from mediagate_sandbox.server import Sandbox
from mediagate_server.api.service_registration import SERVICES
from mediagate_server.app import Server
from mediagate_server.config import Configuration, load_settings
from mediagate_server.observability.logging import configure_logging
from tests.grpc_errors import LOST_STATUS, reason_of, rpc_error, status_of

from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant, tenant_key, tenant_metadata

KEY = tenant_key("acme")
UNSIGNED = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
CLAIMS = base64.urlsafe_b64encode(b'{"sub":"acme","exp":1}').decode().rstrip("=")
BAD = (
    "Bearer",
    "Bearer ",
    f"Bearer  {KEY}",
    f"Bearer:{KEY}",
    f"Bearer {KEY[:-1]}",
    f"Bearer {KEY[1:]}",
    f"Bearer {KEY}x",
    f"Bearer {KEY} {KEY}",
    f"Bearer {KEY},{KEY}",
    f"Bearer {KEY.upper()}",
    f"Bearer {KEY[::-1]}",
    f'Bearer "{KEY}"',
    f"Bearer {KEY}%00",
    f"Bearer Bearer {KEY}",
    f"Basic {base64.b64encode(f'acme:{KEY}'.encode()).decode()}",
    f"Token {KEY}",
    f"ApiKey {KEY}",
    f"Digest {KEY}",
    KEY,
    "acme",
    "Bearer acme",
    "Bearer local",
    "Bearer null",
    "Bearer *",
    "Bearer ' OR 1=1 --",
    f"Bearer {UNSIGNED}.{CLAIMS}.",
    f"Bearer {UNSIGNED}.{CLAIMS}.c2lnbmF0dXJl",
    f"Bearer sha256:{'0' * 64}",
    f"Bearer {'0' * 64}",
    f"Bearer {'x' * 5000}",
    "Bearer r8_test_token",
)
"""More than thirty values of one authorization header."""


def every_method() -> list[str]:
    """The path of each rpc of the contract, built or not."""
    pool = descriptor_pool.Default()
    return [
        f"/{service}/{method.name}"
        for service in SERVICES
        for method in pool.FindServiceByName(service).methods
    ]


async def ended(channel: grpc.aio.Channel, path: str, *metadata: tuple[str, str | bytes]) -> Any:
    """How a call of a method ends: its error, or None.

    Made again where gRPC's client has lost the server's status.
    """
    method: Any = channel.stream_stream(path)
    for _ in range(10):
        try:
            await anext(aiter(method([b""], metadata=metadata)), None)
        except grpc.aio.AioRpcError as error:
            if error.details() != LOST_STATUS:
                return error
        else:
            return None
    pytest.fail("gRPC's client lost the status ten times in a row")


async def ask(channel: grpc.aio.Channel, path: str, *metadata: tuple[str, str | bytes]) -> Any:
    """The error that a call of a method ends with."""
    error = await ended(channel, path, *metadata)
    assert error is not None, path
    return error


@pytest.fixture
async def server(sandbox: Sandbox, open_server: OpenServer) -> AsyncIterator[Server]:
    """A server with two tenants, one of them an admin."""
    tenants = (tenant("acme"), tenant("boss", admin=True))
    async with open_server(sandbox.url, tenants=tenants) as (_, server):
        yield server


async def test_every_method_refuses_every_bad_credential(server: Server) -> None:
    """Found by walking the contract: a method that is added is tried as well. Nothing is named."""
    methods = every_method()
    assert len(methods) >= 30
    assert len(set(BAD)) >= 30
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        for path in methods:
            missing = await ask(channel, path)
            assert (missing.code(), reason_of(missing)) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "KEY_MISSING",
            ), path
            answers = await asyncio.gather(
                *(ask(channel, path, ("authorization", value)) for value in BAD),
                ask(channel, path, *tenant_metadata("acme"), *tenant_metadata("acme")),
                ask(channel, path, *tenant_metadata("acme"), ("authorization", "Bearer x")),
            )
            assert {reason_of(answer) for answer in answers} == {"KEY_INVALID"}, path
            assert len({status_of(answer).SerializeToString() for answer in answers}) == 1, path


async def test_a_key_in_other_metadata_is_ignored(server: Server) -> None:
    """The one header counts, and nothing else that a caller may send."""
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        for name in ("x-api-key", "api-key", "mediagate-key", "cookie", "proxy-authorization"):
            error = await ask(channel, "/mediagate.v1.ModelService/ListModels", (name, KEY))
            assert reason_of(error) == "KEY_MISSING"


async def test_health_needs_no_key(server: Server) -> None:
    """Whoever balances load has none."""
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_valid_key_is_accepted(server: Server) -> None:
    """By the client's own argument, and with the scheme in any case."""
    async with AsyncClient(server.grpc_address, api_key=KEY) as client:
        assert await client.models()
    async with AsyncClient(server.grpc_address, api_key="not-a-key") as client:
        with pytest.raises(Unauthenticated):
            await client.models()
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        await Stubs.on(channel).models.ListModels(
            models_pb2.ListModelsRequest(), metadata=(("authorization", f"bEARER {KEY}"),)
        )


async def test_admin_methods_require_an_admin_key(server: Server) -> None:
    """Every one of its methods, built or not, before the request is even read."""
    paths = [path for path in every_method() if "AdminService" in path]
    assert paths
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        for path in paths:
            error = await ask(channel, path, *tenant_metadata("acme"))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert reason_of(error) == "SCOPE_MISSING"
            allowed = await ended(channel, path, *tenant_metadata("boss"))
            assert allowed is None or reason_of(allowed) in {
                "INVALID_REQUEST",
                "NOT_IMPLEMENTED",
            }, path


async def test_keys_never_appear_in_logs(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither good nor bad ones stand in logs, and no tenant does where the key was bad."""
    configure_logging("debug")
    async with channel_of(server.grpc_address, "acme") as channel:
        await Stubs.on(channel).models.ListModels(models_pb2.ListModelsRequest())
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        await ask(channel, "/mediagate.v1.ModelService/ListModels", ("authorization", KEY[:-1]))
    written = capsys.readouterr()
    assert '"tenant":"acme"' in written.err
    assert KEY[:-1] not in written.err + written.out


async def test_keys_are_reloaded_without_a_restart(
    sandbox: Sandbox, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new key is good at once and an old one no more, on a connection that stays open."""
    monkeypatch.setenv("MEDIAGATE_UPSTREAM_URL", sandbox.url)
    monkeypatch.setenv("MEDIAGATE_DATA_DIR", str(tmp_path / "data"))
    for port in ("GRPC", "OPS", "WEB"):
        monkeypatch.setenv(f"MEDIAGATE_{port}_ADDRESS", "127.0.0.1:0")
    monkeypatch.setenv("FIRST", tenant_key("first"))
    monkeypatch.setenv("SECOND", tenant_key("second"))
    file = tmp_path / "gate.toml"
    file.write_text('[tenants.acme]\nkeys = ["env:FIRST"]\nrequests_per_minute = 100\n')
    configuration = Configuration(load_settings(file), file)
    listing = generations_pb2.ListGenerationsRequest()
    async with (
        Server(configuration) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        stubs = Stubs.on(channel).generations
        await stubs.ListGenerations(listing, metadata=tenant_metadata("first"))
        file.write_text('[tenants.acme]\nkeys = ["env:SECOND"]\nrequests_per_minute = 2\n')
        assert configuration.reload() == ()
        error = await rpc_error(stubs.ListGenerations(listing, metadata=tenant_metadata("first")))
        assert reason_of(error) == "KEY_INVALID"
        await stubs.ListGenerations(listing, metadata=tenant_metadata("second"))
        error = await rpc_error(stubs.ListGenerations(listing, metadata=tenant_metadata("second")))
        assert reason_of(error) == "RATE_LIMITED"


async def test_without_tenants_no_key_is_required(sandbox_stubs: Stubs) -> None:
    """Whoever can reach the server runs it: admin's methods are not refused for want of scope."""
    await sandbox_stubs.models.ListModels(models_pb2.ListModelsRequest())
    error = await rpc_error(sandbox_stubs.admin.ListKeys(admin_pb2.ListKeysRequest(tenant="local")))
    assert reason_of(error) == "NOT_IMPLEMENTED"
