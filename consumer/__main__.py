"""``python -m consumer --model NAME``: run one consumer process."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from functools import partial
from time import monotonic
from typing import NoReturn

import click
from prometheus_client import CollectorRegistry

from shared import streams
from shared.allocator import keep_freed_memory
from shared.exit_codes import WRONG_CONFIGURATION
from shared.logs import configure
from shared.metrics_server import names_of
from shared.redis_door import check_server
from shared.service_links import notice
from shared.settings import Settings, SettingsError
from shared.tracing import start

from . import pinning
from .boundary import watch_forks
from .config import resolve
from .ending import Ending, let_children_end
from .metrics import ConsumerMetrics
from .models.registry import build
from .redis_starts import RedisBoard
from .redis_stream import RedisStream
from .threads import threads_of
from .worker import Worker

log = logging.getLogger("consumer")

KEPT_BYTES = 64 * 1024 * 1024
"""Freed memory that a consumer keeps whose model does not bring torch; with torch it is without bound."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", "model_name", required=True, help="Model to serve, a name in models.toml.")
@click.option("--index", default=0, show_default=True, help="Number of this process; added to HEADRACE_METRICS_PORT.")
@click.option(
    "--cores", default="", help="Cores to run on, such as 0 or 2,3. `headrace up` gives each consumer its own."
)
def main(model_name: str, index: int, cores: str) -> None:
    """Serve one model: read its stream, batch, run, reply. Ends on SIGTERM when everything claimed is answered."""
    begun_s, ending = monotonic(), Ending()
    try:
        config = resolve(Settings.from_env(os.environ), model_name, index)
        check_server(config.settings)
        elsewhere = pinning.pin(pinning.parse(cores))
        tracing = start(config.settings.tracing, "headrace-consumer")
    except SettingsError as error:
        _refuse(str(error))
    # A read of 32 pictures is 5 MB that come and go; without this their pages are faulted in for each read anew.
    keep_freed_memory(most_bytes=KEPT_BYTES, step_bytes=8 << 20)
    configure(config.settings.log_level, config.settings.log_format)
    if ignored := notice(os.environ):
        log.info("%s", ignored)
    metrics = ConsumerMetrics(CollectorRegistry(), model_name)
    host = config.settings.metrics_host
    try:
        port = metrics.serve(host, config.metrics_port, names_of(config.settings))
    except OSError as error:
        _refuse(f"HEADRACE_METRICS_PORT: {host}:{config.metrics_port} cannot be used: {error.strerror}.")
    log.info("Worker %s; metrics at http://%s:%d/metrics.", config.worker, host, port)
    stream = RedisStream(config.settings, model_name, config.worker)
    board = RedisBoard(config.settings, model_name, config.worker, config.place, begun_s)
    threads = threads_of(config.settings)
    model = partial(build, model_name, config.model, threads)
    worker = Worker(config, model, stream, metrics, tracing, board, elsewhere)
    metrics.is_ready = lambda: worker.is_ready
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    let_children_end()
    watch_forks()
    status = worker.run()
    if tracing is not None:
        tracing.stop()
    ending.leave(status)


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(WRONG_CONFIGURATION)


if __name__ == "__main__":
    streams.secure()
    gc.set_threshold(50_000, 50, 100)
    main()
