"""The listener: its address, its limits, and how it ends [I/O]."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc

from producer_api.http.server import Tls
from shared.settings import Settings, SettingsError

log = logging.getLogger("headrace.grpc")

FRAMING_BYTES: Final = 64 * 1024
"""What a message may hold besides the tensors."""

LAST_WORDS_S: Final = 1.0
"""How long answers of the very end may take to be sent."""

STREAMS: Final = 1024
"""Calls at once on one connection; a client waits before it sends more."""

PING_EVERY_MS: Final = 10_000
"""How often a client may ping that has nothing else to send; one that does more often is cut off."""

READ_BYTES: Final = 256 * 1024
"""What is read from a connection at once. With the library's 8 KiB a picture of 150 KB takes a tenth more time."""


class Listener:
    """Serves gRPC beside HTTP, on the same event loop.

    Args:
        service: a ``grpc.GenericRpcHandler``.
        end_all: ends the inferences in progress, with an error for their clients.
    """

    def __init__(self, settings: Settings, tls: Tls | None, service: Any, end_all: Callable[[], None]) -> None:
        self._settings, self._tls, self._service, self._end_all = settings, tls, service, end_all
        self._server: Any = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the address and serve.

        Raises:
            SettingsError: it cannot be taken.
        """
        settings = self._settings
        assert settings.grpc_port is not None
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._server = grpc.aio.server(handlers=[self._service], options=options(settings))
        try:
            address = f"{host}:{settings.grpc_port}"
            if self._tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(self._tls))
        except RuntimeError:
            raise SettingsError(
                f"Port {settings.grpc_port} of {settings.host} cannot be used for gRPC, or is in use; "
                "HEADRACE_GRPC_PORT chooses another."
            ) from None
        await self._server.start()
        log.info("Serving gRPC%s on %s:%d.", "" if self._tls is None else " with TLS", host, port)

    def stop(self, wait_s: float) -> None:
        """Take no calls any more; those in progress have so long to end. Returns at once."""
        if self._server is not None and self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(wait_s))

    async def _stop(self, wait_s: float) -> None:
        asyncio.get_running_loop().call_later(wait_s, self._end_all)
        await self._server.stop(wait_s + LAST_WORDS_S)

    async def stopped(self) -> None:
        """Wait until it has stopped, if it was ever started."""
        self.stop(0.0)
        if self._stopping is not None:
            await self._stopping


def options(settings: Settings) -> list[tuple[str, int]]:
    """Return what bounds a connection and its calls."""
    return [
        ("grpc.so_reuseport", int(settings.shares_port)),
        ("grpc.max_receive_message_length", settings.max_body_bytes + FRAMING_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_EVERY_MS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_EVERY_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.experimental.tcp_read_chunk_size", READ_BYTES),
        ("grpc.experimental.tcp_min_read_chunk_size", READ_BYTES // 4),
    ]


def _credentials(tls: Tls) -> Any:
    return grpc.ssl_server_credentials([(Path(tls.key_file).read_bytes(), Path(tls.cert_file).read_bytes())])
