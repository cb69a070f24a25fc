"""``python -m producer_api``: serve REST on HEADRACE_HOST:HEADRACE_PORT until SIGTERM."""

from __future__ import annotations

import logging
import os
import sys

import click

from shared import streams
from shared.allocator import keep_freed_memory
from shared.exposure import check_exposure
from shared.redis_door import check_server
from shared.service_links import notice
from shared.settings import PREFIX, Settings, SettingsError
from shared.tracing import start

from . import server
from .app import create_app
from .metrics import new_registry, queue_metrics, serve_metrics
from .redis_queue import RedisQueue


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Serve REST on HEADRACE_HOST:HEADRACE_PORT. Ends on SIGTERM when the requests in flight are answered."""
    try:
        settings = Settings.from_env(os.environ)
        check_exposure(settings)
        check_server(settings)
        tls = server.tls_of(settings)
        listener = server.bind(settings.host, settings.port)
        tracing = start(settings.tracing, "headrace-producer-api")
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    # The heap shrank and grew with every few pictures that passed through: half of the front end's time for them.
    keep_freed_memory(most_bytes=32 << 20, step_bytes=4 << 20)
    server.configure_logging(settings.log_level, settings.log_format)
    if ignored := notice(os.environ):
        logging.getLogger("headrace").info("%s", ignored)
    registry = new_registry()
    # The default of the setting is a promise of nobody.
    configured = settings.models if PREFIX + "MODELS" in os.environ else ()
    queue = RedisQueue(settings, queue_metrics(registry), configured)
    try:
        app = create_app(settings, queue, registry, commit=os.environ.get("GIT_COMMIT") or None, tracing=tracing)
        serve_metrics(settings, registry)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    status = server.run(app, listener, server.wait_s(settings), tls, settings.drain_s)
    if tracing is not None:
        tracing.stop()
    sys.exit(status)


if __name__ == "__main__":
    streams.secure()
    main()
