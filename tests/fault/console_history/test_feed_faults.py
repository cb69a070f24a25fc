"""Redis goes and comes back while somebody listens to the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.console_feed.streams import events
from tests.e2e.stack import Stack, echo_models
from tests.fault.redis.servers import server_in

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]


def test_the_stream_says_that_redis_is_away_and_that_it_is_back(tmp_path: Path, model_name: str) -> None:
    with (
        server_in(tmp_path / "redis") as server,
        Stack(server.url, echo_models(tmp_path, model_name), LEASE_MS="1500") as stack,
    ):
        stack.start_consumer(model_name)
        front_end = stack.start_front_end()
        stack.wait(model_name)
        with events(stack.url, model=model_name) as stream:
            before = stream.until(lambda state: state["health"]["level"] == "ok")
            assert before["redis"]["ok"]
            server.kill()
            away = stream.until(lambda state: not state["redis"]["ok"])
            assert away["health"]["level"] == "bad"
            assert away["health"]["reasons"][0]["what"].startswith("Redis does not answer")
            assert away["model"]["name"] == model_name
            assert away["at_ms"] >= before["at_ms"]
            server.start()
            back = stream.until(lambda state: state["redis"]["ok"] and state["model"]["ready"])
            assert len(back["model"]["workers"]) == 1
        assert "Traceback" not in front_end.text()
