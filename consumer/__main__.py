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

from shared.metrics.server import names_of
from shared.process import standard_streams
from shared.process.allocator import keep_freed_memory
from shared.process.exit_codes import WRONG_CONFIGURATION
from shared.process.logs import configure
from shared.redis.minimum_server import check_server
from shared.results.opening import check_store
from shared.service_links import notice
from shared.settings import Settings, SettingsError
from shared.tracing.start import start

from . import cpu_affinity
from .batch_threads import threads_of
from .config import resolve
from .fork_guard import watch_forks
from .metrics import ConsumerMetrics
from .models.families import build
from .process_end import Ending, let_children_end
from .queue.redis_starts import RedisBoard
from .queue.redis_stream import RedisStream
from .request_log.redis_log import RedisLog
from .request_log.request_log import RequestLog
from .worker import Worker

log = logging.getLogger("consumer")

KEPT_BYTES = 64 * 1024 * 1024
"""Freed memory that a consumer keeps if its model does not import torch; with torch there is no limit."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model",
    required=True,
    metavar="NAME|[NAME=]FILE.py:CLASS",
    help="Model to serve: a name in models.toml, or the code of one of your own.",
)
@click.option("--index", default=0, show_default=True, help="Number of this process; added to HEADRACE_METRICS_PORT.")
@click.option(
    "--cores", default="", help="Cores to run on, such as 0 or 2,3. `headrace up` gives each consumer its own."
)
def main(model: str, index: int, cores: str) -> None:
    """Serve one model: read its stream, batch, run, reply. Ends on SIGTERM when everything claimed is answered."""
    begun_s, ending = monotonic(), Ending()
    try:
        config = resolve(Settings.from_env(os.environ), model, index)
        check_server(config.settings)
        check_store(config.settings)
        elsewhere = cpu_affinity.pin(cpu_affinity.parse(cores))
        tracing = start(config.settings.tracing, "headrace-consumer")
    except SettingsError as error:
        _refuse(str(error))
    # A read of 32 pictures is 5 MB that come and go; without this each read faults their pages in again.
    keep_freed_memory(most_bytes=KEPT_BYTES, step_bytes=8 << 20)
    configure(config.settings.log_level, config.settings.log_format)
    if ignored := notice(os.environ):
        log.info("%s", ignored)
    metrics = ConsumerMetrics(CollectorRegistry(), config.model_name)
    host = config.settings.metrics_host
    try:
        port = metrics.serve(host, config.metrics_port, names_of(config.settings))
    except OSError as error:
        _refuse(f"HEADRACE_METRICS_PORT: {host}:{config.metrics_port} cannot be used: {error.strerror}.")
    log.info("Worker %s; metrics at http://%s:%d/metrics.", config.worker, host, port)
    stream = RedisStream(config.settings, config.model_name, config.worker)
    board = RedisBoard(config.settings, config.model_name, config.worker, config.place, begun_s)
    threads = threads_of(config.settings)
    make_model = partial(build, config.model_name, config.model, threads)
    request_log = None
    if config.settings.request_log_mb:
        log_of = RedisLog(config.settings, config.model_name)
        request_log = RequestLog(config.worker, log_of.write, metrics.not_logged)
    worker = Worker(config, make_model, stream, metrics, tracing, board, elsewhere, request_log)
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
    standard_streams.secure()
    gc.set_threshold(50_000, 50, 100)
    main()
