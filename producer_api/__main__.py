"""``python -m producer_api``: serve REST on HEADRACE_HOST:HEADRACE_PORT until SIGTERM."""

from __future__ import annotations

import logging
import os
import socket
import sys

import click

from shared.net.exposure import check_exposure
from shared.process import standard_streams
from shared.process.allocator import keep_freed_memory
from shared.redis.minimum_server import check_server
from shared.results.opening import check_store, open_store
from shared.service_links import notice
from shared.settings import PREFIX, Settings, SettingsError
from shared.tracing.start import start

from .app import create_app
from .console.data import ConsoleData
from .http import seats, server
from .later.redis_later import RedisLater
from .metrics import WebhookMetrics, later_metrics, new_registry, not_logged, queue_metrics, serve_metrics
from .queue.redis_queue import RedisQueue
from .request_log.ended import EndedRequests
from .request_log.redis_log import RedisRequestLog
from .routes.service import is_ready
from .routes.webhooks import make_courier


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--index", type=click.IntRange(0), help="Its number among those on its port; else the lowest free.")
def main(index: int | None) -> None:
    """Serve REST on HEADRACE_HOST:HEADRACE_PORT. Ends on SIGTERM when the requests in flight are answered.

    With HEADRACE_FRONT_ENDS above 1 so many of these share the port; each is started by itself.
    """
    try:
        settings = Settings.from_env(os.environ)
        check_exposure(settings)
        check_server(settings)
        check_store(settings)
        tls = server.tls_of(settings)
        listener, number = _place(settings, index)
        tracing = start(settings.tracing, "headrace-producer-api")
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    # The heap shrank and grew with every few pictures that passed through: half of the front end's time for them.
    keep_freed_memory(most_bytes=32 << 20, step_bytes=4 << 20)
    server.configure_logging(settings.log_level, settings.log_format)
    if ignored := notice(os.environ):
        logging.getLogger("headrace").info("%s", ignored)
    if settings.shares_port:
        sentence = "This is front end %d of at most %d on port %d."
        logging.getLogger("headrace").info(sentence, number + 1, settings.front_ends, settings.port)
    registry = new_registry()
    # The default of the setting promises no model.
    configured = settings.models if PREFIX + "MODELS" in os.environ else ()
    instruments = queue_metrics(registry)
    queue = RedisQueue(settings, instruments, configured)
    later = RedisLater(settings, queue.catalogue, later_metrics(registry).show)
    request_log = None
    if settings.request_log_mb:
        request_log = RedisRequestLog(settings, queue.instance, EndedRequests(), not_logged(registry))
    try:
        commit = os.environ.get("GIT_COMMIT") or None
        courier = make_courier(settings, queue, lambda: WebhookMetrics(registry))
        app = create_app(
            settings,
            queue,
            registry,
            commit=commit,
            tracing=tracing,
            later=later,
            courier=courier,
            console_data=ConsoleData(settings, instruments.reply_wait),
            store=open_store(settings),
            request_log=request_log,
        )
        serve_metrics(settings, registry, number, lambda: is_ready(queue.catalogue(), app.rules))
        status = server.run(app, listener, server.wait_s(settings), tls, settings.drain_s)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    if tracing is not None:
        tracing.stop()
    sys.exit(status)


def _place(settings: Settings, index: int | None) -> tuple[socket.socket, int]:
    """Take the port, alone or as one of several; returns the number among them, too.

    Raises:
        SettingsError: it cannot be taken, or there is no such number.
    """
    most = max(1, settings.front_ends)
    if index is not None and index >= most:
        raise SettingsError(f"--index must be less than HEADRACE_FRONT_ENDS ({most}), not {index}.")
    if not settings.shares_port:
        return server.bind(settings.host, settings.port), 0
    seat = seats.take(settings, index)
    return seat.listener, seat.number


if __name__ == "__main__":
    standard_streams.secure()
    main()
