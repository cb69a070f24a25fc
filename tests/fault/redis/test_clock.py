"""Row 26: Redis's clock jumps an hour, forward or back, and a producer's clock is a day off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from shared.redis.embedded import HOST, ServerConfig, find_server, free_port, server_argv
from tests.fault.load import Load
from tests.fault.redis import servers
from tests.fault.site import Site, body_of, wait_until
from tests.needs import is_missing

HOUR_S = 3600
NORMAL_WITHIN_S = 5.0
FOUND = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60), pytest.mark.usefixtures("faketime")]


@pytest.fixture
def faketime() -> None:
    """The library that sets a clock is installed."""
    if not FOUND:
        is_missing("libfaketime is not installed (Debian and Ubuntu: apt install faketime).")


class Clock:
    """A server whose clock can be set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.config = ServerConfig(folder, free_port(), appendonly="no", maxmemory_mb=256)
        self.url = f"redis://{HOST}:{self.config.port}/0"
        self.jump(0)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a server look at the file; intervals are not touched."""
        return {
            "LD_PRELOAD": str(FOUND[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """Be so far off from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


@pytest.fixture
def clock(faketime: None, tmp_path: Path) -> Iterator[Clock]:
    clock = Clock(tmp_path)
    argv = server_argv(find_server(), clock.config)
    with servers.process(argv, clock.config.port, tmp_path / "server.log", clock.environment):
        yield clock


def clock_of(site: Site) -> int:
    now: Any = site.redis.time()
    return int(now[0])


@pytest.mark.parametrize(
    "seconds", [pytest.param(-HOUR_S, id="back"), pytest.param(HOUR_S, id="forward", marks=pytest.mark.soak)]
)
def test_row_26_the_clock_of_redis_jumps(clock: Clock, tmp_path: Path, model_name: str, seconds: int) -> None:
    with Site(clock.url, model_name, tmp_path, LEASE_MS="1500") as site, ThreadPoolExecutor(6) as pool:
        site.front_end()
        front_end, consumers = site.stack.latest, [site.consumer(WINDOW_MS="0", MAX_BATCH="8") for _ in range(2)]
        site.stack.wait(model_name)
        with Load(site, timeout_ms=2000) as load:
            wait_until(lambda: load.answered >= 20)
            held = site.hold()
            waiting = [pool.submit(site.ask, b"hold", f"wait-{number}", 2000) for number in range(6)]
            wait_until(lambda: site.runs_of("hold") >= 1 and site.length() >= 6)
            before = clock_of(site)
            clock.jump(seconds)
            jumped_s = time.monotonic()
            wait_until(lambda: abs(clock_of(site) - before - seconds) < 60)
            held.unlink()
            assert {one.result().status for one in waiting} <= {200, 504}
            wait_until(lambda: time.monotonic() > jumped_s + NORMAL_WITHIN_S)
            assert [body_of(site.ask(b"hold", f"wait-{number}")) for number in range(6)] == [b"hold"] * 6
            before_answers = load.answered
            wait_until(lambda: load.answered >= before_answers + 20)
        assert load.wrong == []
        assert set(load.statuses(since_s=jumped_s + NORMAL_WITHIN_S)) == {200}
        assert site.ready()
        assert [process.popen.poll() for process in (front_end, *consumers)] == [None] * 3


@pytest.mark.soak
def test_a_consumer_that_dies_when_the_clock_is_set_back_is_missed(
    clock: Clock, tmp_path: Path, model_name: str
) -> None:
    """On the new clock it was seen last, and its work delivered, in an hour."""
    with Site(clock.url, model_name, tmp_path, LEASE_MS="1500") as site, ThreadPoolExecutor(1) as pool:
        site.front_end()
        doomed = site.consumer()
        site.stack.wait(model_name)
        held = site.hold()
        waiting = pool.submit(site.ask, b"hold", "orphan")
        wait_until(lambda: site.runs_of("hold") == 1)
        doomed.signal(SIGKILL)
        clock.jump(-HOUR_S)
        held.unlink()
        wait_until(lambda: not site.ready())
        site.consumer()
        assert body_of(waiting.result()) == b"hold"
        assert site.length() == 0


def test_row_26_a_front_end_whose_clock_is_a_day_off(
    valkey_url: str, tmp_path: Path, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(valkey_url, model_name, tmp_path) as site:
        for days in (-1, 1):
            with monkeypatch.context() as environment:
                environment.setenv("LD_PRELOAD", str(FOUND[0]))
                environment.setenv("FAKETIME", f"{days * 86400:+d}")
                environment.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                site.front_end()
            with open(f"/proc/{site.stack.latest.popen.pid}/maps") as maps:
                assert "libfaketime" in maps.read()
            assert "LD_PRELOAD" not in os.environ
            site.consumer()
            site.stack.wait(model_name)
            answer = site.ask(b"now", f"day-{days + 1}", 2000)
            assert body_of(answer) == b"now"
            assert 0 <= answer.body["timing"]["queue_ms"] < 2000
            assert 0 < answer.body["timing"]["total_ms"] < 2000
