"""What the tests of the operator's commands share: a server of their own with a model on it, and the command line."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from consumer.queue.redis_stream import RedisStream
from headrace.__main__ import main
from shared import keys
from shared.redis import library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from shared.settings import Settings
from shared.state.cards import Card
from shared.wire.messages import Request, encode_request
from tests.contract.lanes import card
from tests.embedded import EmbeddedServer

MODEL = "echo"
LONG_LEASE = {"HEADRACE_LEASE_MS": "60000"}
"""On a busy machine several commands take longer than the lease by default."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


def headrace(url: str, *arguments: str, **settings: str) -> Said:
    """Run a command of ``headrace`` on the server at ``url``, in this process: on the main thread only, since all
    threads share the streams and the environment that it is given."""
    assert threading.current_thread() is threading.main_thread()
    runner = CliRunner(env=dict.fromkeys((name for name in os.environ if name.startswith("HEADRACE_")), None))
    done = runner.invoke(main, arguments, env={"HEADRACE_REDIS_URL": url, "HEADRACE_TUNE": "off", **settings})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A fresh server with the functions on it; its address."""
    with EmbeddedServer(ServerConfig(folder, free_port(), "everysec", 64)) as running:
        with connect(running.url) as client:
            library.load(client)
        yield running.url


def serve(url: str, worker: str = "w1", runs: Card | None = None, **state: str) -> None:
    """Have a worker say once that it lives, which sets up the lane.

    Args:
        runs: its card.
        state: more of what it says of itself.
    """
    settings = Settings.from_env({"HEADRACE_REDIS_URL": url, **LONG_LEASE})
    stream = RedisStream(settings, MODEL, worker)
    try:
        stream.heartbeat(runs or card(MODEL), {"precision": "fp32", "device": "cpu", **state})
    finally:
        stream.close()


def add(client: Any, count: int) -> None:
    """Put requests into the lane."""
    for number in range(count):
        request = Request(f"r{number}", 60_000, "application/octet-stream", b"x")
        client.xadd(keys.work(MODEL, keys.DEFAULT_LANE), {keys.MESSAGE_FIELD: encode_request(request)})
