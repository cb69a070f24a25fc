"""`status --watch` shows again and again, through outages, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from shared.redis import library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.children import ROOT, Output, clean_environment
from tests.embedded import EmbeddedServer
from tests.unit.headrace.operators import serve

from .conftest import HEADRACE, Place


def test_each_look_is_a_line_of_json_until_ctrl_c(place: Place) -> None:
    command = [*HEADRACE, "--redis", place.redis, "status", "--watch", "100ms", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as watching:
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
        assert watching.wait() == 0
    assert [sorted(one["model"] for one in look["models"]) for look in looks] == [["colour", "echo"]] * 3
    assert looks[1]["models"][0]["lanes"][0]["arriving_per_s"] is not None


def test_an_outage_is_told_and_survived(tmp_path: Path) -> None:
    config = ServerConfig(tmp_path, free_port(), "everysec", 64)
    with EmbeddedServer(config) as running:
        serve_functions(running.url)
        command = [sys.executable, "-m", "headrace", "--redis", running.url, "status", "--watch", "0.1"]
        watching = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert watching.stdout is not None
        output = Output(watching.stdout)
        assert output.first(lambda line: "MODEL" in line) is not None
    assert output.first(lambda line: "Redis is away" in line) is not None
    seen = len(output.lines)
    with EmbeddedServer(config):
        assert output.first(lambda line: "MODEL" in line, skip=seen) is not None
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 0
        output.close()


def serve_functions(url: str) -> None:
    """Put functions and a worker on a server."""
    with connect(url) as client:
        library.load(client)
    serve(url)
