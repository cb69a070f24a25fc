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
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from shared.logs import configure
from shared.settings import Settings, SettingsError

from .http_express import ExpressProtocol

_log = logging.getLogger("headrace.http")


def configure_logging(level: str, form: str) -> None:
    """Log to stderr from ``level`` on, as ``text`` or ``json``, one line per event."""
    configure(level, form, one_line=True)
    # uvicorn warns of every request it cannot parse, which would let anybody fill the log.
    logging.getLogger("uvicorn.error").setLevel("DEBUG" if level == "debug" else "ERROR")


def bind(host: str, port: int) -> socket.socket:
    """Take the address before anything else starts.

    Raises:
        SettingsError: it cannot be taken; the sentence says why.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"Port {port} of {host} is in use; HEADRACE_PORT chooses another.") from None
        raise SettingsError(f"Cannot listen on {host} port {port}: {error.strerror or error}.") from None
    return listener


def drain_s(settings: Settings) -> float:
    """Seconds that a signal to stop waits for the requests in flight: their default time limit and a little.

    ``headrace up`` leaves three seconds more before it uses SIGKILL.
    """
    return settings.default_timeout_ms / 1000 + 2


def config(app: ASGIApp, wait_s: float, protocol: type[ExpressProtocol] = ExpressProtocol) -> uvicorn.Config:
    """The one configuration of uvicorn, also used by the tests; ``wait_s`` as from :func:`drain_s`.

    An application with an attribute ``express`` has the common predict request answered around ASGI.
    """
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=type("Protocol", (protocol,), {"express": getattr(app, "express", None)}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=math.ceil(wait_s),
    )


class Server(uvicorn.Server):
    """uvicorn's server; a signal ends it in order and the process with exit code 0.

    uvicorn itself raises the signal once more at the end, so that a drained process would seem to have been killed.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What lives now lives as long as the process. A full collection over it would be the slowest request.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            _log.info("Serving on http://%s:%d.", f"[{host}]" if ":" in host else host, port)

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


def run(app: ASGIApp, listener: socket.socket, wait_s: float) -> int:
    """Serve until a signal comes and the requests in flight are answered, ``wait_s`` at most; returns the exit code."""
    server = Server(config(app, wait_s))
    server.run(sockets=[listener])
    return 0
