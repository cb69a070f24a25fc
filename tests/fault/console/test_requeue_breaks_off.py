"""Putting dead letters back while a front end dies or Redis is away: each is in its lane, a letter, or answered."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from producer_api.console.actions.handling import PIECE
from shared import keys
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.console_actions.desk import ACTION, Desk, letter
from tests.embedded import EmbeddedServer
from tests.fault.site import LANE, Site, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]

COUNT, LIMIT = 600, 400
ROOM = LIMIT // 2
"""What putting back may fill a lane to: so it waits in the middle."""


@contextmanager
def requeueing(url: str, model: str) -> Iterator[Iterator[Any]]:
    """Begin to put all letters back; gives the documents as they come."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=40)
    connection.request("POST", "/console/dead/requeue", json.dumps({"model": model, "lane": LANE, "all": True}), ACTION)
    with closing(connection), connection.getresponse() as answer:
        assert answer.status == 200
        yield (json.loads(line) for line in answer)


def test_a_front_end_killed_in_the_middle_loses_nothing(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    with Site(valkey_url, model_name, tmp_path, LANE_LIMIT=str(LIMIT)) as site:
        consumer = site.consumer()
        doomed, process = site.front_end(), site.stack.latest
        wait_until(lambda: site.ready(doomed))
        place = keys.dead_letters(model_name, LANE)
        redis: Any = site.redis
        with redis.pipeline(transaction=False) as step:
            for number in range(COUNT):
                step.xadd(place, letter(f"c-{number}", content_type="application/octet-stream", body=b"%d" % number))
            step.execute()
        consumer.signal(signal.SIGSTOP)
        with requeueing(doomed, model_name) as lines:
            wait_until(lambda: site.length() == ROOM)
            process.signal(signal.SIGKILL)
            with suppress(OSError, http.client.HTTPException):
                assert not any("ended" in line for line in lines)
        process.popen.wait()
        assert redis.xlen(place) == COUNT - ROOM
        consumer.signal(signal.SIGCONT)

        other = site.front_end()
        wait_until(lambda: site.ready(other))
        with requeueing(other, model_name) as lines:
            assert list(lines)[-1] == {"ended": True, "done": COUNT - ROOM, "failed": 0, "gone": 0, "why": ""}
        wait_until(lambda: site.length() == 0)
        assert redis.xlen(place) == 0
        ran = sorted(int(body) for batch in site.batches() for body in batch if body.isdigit())  # the others warm up
        assert ran == list(range(COUNT))
        assert redis.exists(*(keys.reply(model_name, LANE, f"c-{number}") for number in range(COUNT))) == COUNT


def test_redis_away_in_the_middle_is_told_in_the_stream(tmp_path: Path) -> None:
    with (
        EmbeddedServer(ServerConfig(tmp_path, free_port(), "no", 256)) as server,
        Desk(server.url, lane_limit=LIMIT, lease_ms=1_000) as desk,
    ):
        desk.bury(COUNT)
        with requeueing(f"http://127.0.0.1:{desk.server.port}", desk.model) as lines:
            wait_until(lambda: desk.depth() == ROOM)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                end = list(lines)[-1]
            finally:
                os.kill(server.pid, signal.SIGCONT)
        assert end["ended"] is True
        assert "did not answer in time" in end["why"]
        assert end["done"] in (ROOM, ROOM - PIECE)  # the answer to the last piece may have come, or not
        assert (desk.depth(), len(desk.letters())) == (ROOM, COUNT - ROOM)
        assert desk.drop(all=True).end["done"] == COUNT - ROOM  # it goes on by itself when Redis is there again
