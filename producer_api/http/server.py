"""Running the application under uvicorn: socket, logging, garbage collection, signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import math
import signal
import socket
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from shared.net.certificates import check_pair
from shared.net.listener import bind as bind_socket
from shared.net.listener import end as end_listening
from shared.process.logs import configure
from shared.settings import Settings, SettingsError

from .connection import STOPPING_LINGER_S
from .express_protocol import ExpressProtocol
from .responses import EVERYWHERE
from .rules import Rules

_log = logging.getLogger("headrace.http")

BACKLOG = 2048
HANDSHAKE_S = 10.0
"""Time for a handshake of TLS."""

GOODBYE_S = 300.0
"""The same for its end. Before that a client is cut off that takes nothing, or that has nothing to take."""

LAST_REQUEST_S = 0.5
"""How long after it was made a connection may send its first request although the process is told to stop."""

KERNEL_BYTES = 128 * 1024
"""How much of an answer the kernel takes for a client before it has sent it. It would take megabytes for each one that
reads nothing, in no account of ours, though in the container's."""


def configure_logging(level: str, form: str) -> None:
    """Log to stderr from ``level`` on, as ``text`` or ``json``, one line per event."""
    configure(level, form, one_line=True)
    # uvicorn warns of every request it cannot parse, which would let anybody fill the log.
    logging.getLogger("uvicorn.error").setLevel("DEBUG" if level == "debug" else "ERROR")


def take_address(host: str, port: int, *, shared: bool = False, setting: str = "HEADRACE_PORT") -> socket.socket:
    """Take the address, without listening on it yet.

    Args:
        shared: beside others of this user that share it, too.
        setting: the one that names the port.

    Raises:
        SettingsError: it cannot be taken; the sentence says why.
    """
    options = []
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES))
    try:
        return bind_socket(host, port, *options, shared=shared)
    except OSError as error:
        raise _refused(host, port, error, setting) from None


def listen(taken: socket.socket) -> None:
    """Begin to take connections on an address.

    Raises:
        SettingsError: another process was quicker.
    """
    try:
        taken.listen(BACKLOG)
    except OSError as error:
        host, port = taken.getsockname()[:2]
        raise _refused(host, port, error) from None


def bind(host: str, port: int) -> socket.socket:
    """Take the address and listen on it, before anything else starts: connections wait meanwhile.

    Raises:
        SettingsError: it cannot be taken; the sentence says why.
    """
    taken = take_address(host, port)
    try:
        listen(taken)
    except SettingsError:
        taken.close()
        raise
    return taken


def _refused(host: str, port: int, error: OSError, setting: str = "HEADRACE_PORT") -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"Port {port} of {host} is in use; {setting} chooses another.")
    return SettingsError(f"Cannot listen on {host} port {port}: {error.strerror or error}.")


def wait_s(settings: Settings) -> float:
    """Seconds that a stop waits for the requests in flight: their default time limit and a little.

    It comes after the grace of ``HEADRACE_DRAIN_S``. ``headrace up`` leaves three seconds more before it uses SIGKILL.
    """
    return settings.default_timeout_ms / 1000 + 2


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM of the certificate with its chain, and of its private key."""

    cert_file: str
    key_file: str


def tls_of(settings: Settings) -> Tls | None:
    """Return the files to serve HTTPS with, None for plain HTTP.

    Raises:
        SettingsError: they cannot be used.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    check_pair(settings.tls_cert_file, settings.tls_key_file, "HEADRACE_TLS_CERT_FILE", "HEADRACE_TLS_KEY_FILE")
    return Tls(settings.tls_cert_file, settings.tls_key_file)


def config(
    app: ASGIApp, wait_s: float, protocol: type[ExpressProtocol] = ExpressProtocol, tls: Tls | None = None
) -> uvicorn.Config:
    """The one configuration of uvicorn, also used by the tests; ``wait_s`` as from :func:`wait_s`.

    An application with an attribute ``express`` has the common predict request answered around ASGI, and ``rules`` has
    its accounts of bytes and what its connections have to know.
    """
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=type(
            "Protocol",
            (protocol,),
            {"express": getattr(app, "express", None), "rules": getattr(app, "rules", None) or Rules()},
        ),
        headers=EVERYWHERE,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ssl_certfile=None if tls is None else tls.cert_file,
        ssl_keyfile=None if tls is None else tls.key_file,
        timeout_graceful_shutdown=math.ceil(wait_s),
    )


class Beside(Protocol):
    """Another listener of the application, on the same event loop."""

    async def start(self) -> None:
        """Serve; a ``SettingsError`` says that it cannot."""

    def stop(self, wait_s: float) -> None:
        """Take nothing new; what is in progress has so long to end. Returns at once: the lifespan waits for the end."""


class Server(uvicorn.Server):
    """uvicorn's server; a signal ends it in order and the process with exit code 0.

    uvicorn itself raises the signal once more at the end, so that a drained process would seem to have been killed.

    Args:
        drain_s: seconds between the signal and the closing of the listener, in which requests are still taken.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float = 0.0) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._beside: Beside | None = getattr(config.app, "beside", None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, with limits on the time of what TLS does around the requests."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self.server_state.default_headers = self.config.encoded_headers
        for listener in sockets or ():
            try:
                listen(listener)  # again where it listens already; one that is shared gets no connections before
            except SettingsError:
                await self.lifespan.shutdown()
                raise
        if self._beside is not None:
            try:
                await self._beside.start()
            except SettingsError:
                await self.lifespan.shutdown()
                raise
        self.servers = [await self._listen(listener) for listener in sockets or ()]
        self.started = True
        self._keep_what_lives()
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            _log.info("Serving on %s://%s:%d.", scheme, f"[{host}]" if ":" in host else host, port)

    def _keep_what_lives(self) -> None:
        """What lives now lives as long as the process. A full collection over it would be the slowest request."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, and leave a moment to the clients that were told at the very end.

        The kernel resets what waits at a port that is closed, so connections that nobody has looked at yet are taken
        in. They and those on which nothing has come so far are answered once.
        """
        if self._beside is not None:
            self._beside.stop(self.config.timeout_graceful_shutdown or 0.0)
        waiting = [connection for listener in sockets or () for connection in end_listening(listener)]
        for server in self.servers:
            server.close()
        await self._answer_once(waiting)
        await super().shutdown(sockets)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + STOPPING_LINGER_S
        while (left := self._connections()) and loop.time() < end_s:
            for connection in left:
                connection.shutdown()
            await asyncio.sleep(0.02)
        for connection in left:
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _answer_once(self, waiting: Sequence[socket.socket]) -> None:
        """Let connections that were just accepted, or a moment ago, send a request each: closed now they would lose it.

        The rest of the end sees to the answers.
        """
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        self._kind.rules.is_draining = True
        since_s, end_s = loop.time() - LAST_REQUEST_S, loop.time() + LAST_REQUEST_S
        for connection in self._connections():
            connection.drain()
        limit_s = None if tls is None else LAST_REQUEST_S
        opening = [
            loop.create_task(
                loop.connect_accepted_socket(self._connection, one, ssl=tls, ssl_handshake_timeout=limit_s)
            )
            for one in waiting
        ]
        while loop.time() < end_s:
            if all(task.done() for task in opening) and not any(one.is_new(since_s) for one in self._connections()):
                break
            await asyncio.sleep(0.01)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)  # clients that have left get nothing

    def _connection(self) -> asyncio.Protocol:
        return self._kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _connections(self) -> list[ExpressProtocol]:
        return cast("list[ExpressProtocol]", list(self.server_state.connections))

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        return await loop.create_server(
            self._connection,
            sock=listener,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=None if tls is None else HANDSHAKE_S,
            ssl_shutdown_timeout=None if tls is None else GOODBYE_S,
        )

    @property
    def _kind(self) -> type[ExpressProtocol]:
        return cast("type[ExpressProtocol]", self.config.http_protocol_class)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal begins the grace, if there is one; the next ends it, and so does the end of its time."""
        if self._drain_s > 0 and not self._kind.rules.is_draining and not self.should_exit:
            self._begin_draining()
        else:
            super().handle_exit(sig, frame)

    def _begin_draining(self) -> None:
        """Be ready no more, and make each answer the last on its connection, so that clients go elsewhere."""
        self._kind.rules.is_draining = True
        _log.info("Draining for %g s: not ready any more, still serving. A second signal ends it.", self._drain_s)
        for connection in self._connections():
            connection.drain()
        asyncio.get_running_loop().call_later(self._drain_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def run(app: ASGIApp, listener: socket.socket, wait_s: float, tls: Tls | None = None, drain_s: float = 0.0) -> int:
    """Serve until a signal comes, ``drain_s`` more, and until the requests in flight are answered, ``wait_s`` at most;
    returns the exit code."""
    server = Server(config(app, wait_s, tls=tls), drain_s)
    server.run(sockets=[listener])
    return 0
