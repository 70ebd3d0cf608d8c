"""Tenants with keys, and what a caller with such a key sends."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from mediagate_server.config import Tenant

Details = grpc.aio.ClientCallDetails


def tenant_key(name: str) -> str:
    """The key of a tenant in tests."""
    return f"mgk_{name}_0123456789abcdef"


def tenant(name: str, **more: Any) -> Tenant:
    """A tenant with one key."""
    return Tenant(id=name, keys=(hashlib.sha256(tenant_key(name).encode()).digest(),), **more)


def tenant_metadata(name: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a tenant's calls."""
    return (("authorization", f"Bearer {tenant_key(name)}"),)


class _Signing:
    """Puts a key on each call of a channel."""

    def __init__(self, name: str) -> None:
        self._metadata = tenant_metadata(name)

    async def _signed(
        self, continuation: Callable[..., Any], details: Details, request: Any
    ) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._metadata)
        signed = Details(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
        )
        return await continuation(signed, request)


class _UnaryUnary(_Signing, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Details, request: Any) -> Any:
        return await self._signed(continuation, details, request)


class _UnaryStream(_Signing, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, details: Details, request: Any
    ) -> Any:
        return await self._signed(continuation, details, request)


class _StreamUnary(_Signing, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, details: Details, requests: Any
    ) -> Any:
        return await self._signed(continuation, details, requests)


def channel_of(
    address: str, name: str, options: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """A channel on which everything is a tenant's."""
    kinds = (_UnaryUnary(name), _UnaryStream(name), _StreamUnary(name))
    return grpc.aio.insecure_channel(address, options, interceptors=kinds)
