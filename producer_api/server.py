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
import ssl
from collections.abc import Generator
from dataclasses import dataclass

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
    try:
        # Without a passphrase to ask for, an encrypted key is an error and no prompt.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.tls_cert_file, settings.tls_key_file, password=""
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SettingsError(f"HEADRACE_TLS_CERT_FILE and HEADRACE_TLS_KEY_FILE cannot be used: {why}.") from None
    return Tls(settings.tls_cert_file, settings.tls_key_file)


def config(
    app: ASGIApp, wait_s: float, protocol: type[ExpressProtocol] = ExpressProtocol, tls: Tls | None = None
) -> uvicorn.Config:
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
        ssl_certfile=None if tls is None else tls.cert_file,
        ssl_keyfile=None if tls is None else tls.key_file,
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
            scheme = "https" if self.config.is_ssl else "http"
            _log.info("Serving on %s://%s:%d.", scheme, f"[{host}]" if ":" in host else host, port)

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


def run(app: ASGIApp, listener: socket.socket, wait_s: float, tls: Tls | None = None) -> int:
    """Serve until a signal comes and the requests in flight are answered, ``wait_s`` at most; returns the exit code."""
    server = Server(config(app, wait_s, tls=tls))
    server.run(sockets=[listener])
    return 0
