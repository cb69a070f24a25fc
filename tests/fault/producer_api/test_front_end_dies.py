"""Row 7: a front end is killed while requests wait."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from tests.fault.site import LANE, Site, body_of, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]

# Replies expire within five seconds, and what is known of ids within eight.
SHORT = {"LEASE_MS": "500", "LONGEST_BATCH_MS": "200", "DEFAULT_TIMEOUT_MS": "2000", "MAX_TIMEOUT_MS": "2000"}
WAITING = 5


def keys_of(site: Site, pattern: str) -> set[bytes]:
    found: Any = site.redis.keys(f"hr:{{{site.model}}}:{pattern}")
    return set(found)


def test_row_7_killed_while_requests_wait(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    with Site(valkey_url, model_name, tmp_path, **SHORT) as site, ThreadPoolExecutor(WAITING) as pool:
        doomed, process = site.front_end(), site.stack.latest
        other = site.front_end()
        consumer = site.consumer()
        site.stack.wait(model_name)
        wait_until(lambda: site.ready(doomed))
        streams = keys_of(site, "rs:*")
        consumer.signal(signal.SIGSTOP)
        waiting = [
            pool.submit(site.ask, b"%d" % number, f"left-{number}", 2000, via=doomed) for number in range(WAITING)
        ]
        wait_until(lambda: site.length() == WAITING)
        process.signal(signal.SIGKILL)
        assert [isinstance(one.exception(), OSError) for one in waiting] == [True] * WAITING
        consumer.signal(signal.SIGCONT)
        wait_until(lambda: site.length() == 0)
        for number in range(WAITING):
            assert body_of(site.ask(b"%d" % number, f"left-{number}", 2000, via=other)) == b"%d" % number
            assert site.runs_of(f"{number}") == 1  # the answer was there
            left_ms: Any = site.redis.pttl(keys.reply(model_name, LANE, f"left-{number}"))
            assert 0 < left_ms <= 4800
        assert len(keys_of(site, "rs:*") - streams) == 1  # nobody reads it any more
        consumer.terminate()
        # Of each request, and of both front ends, nothing is left in the end.
        wait_until(lambda: keys_of(site, "[rdx]:*") | keys_of(site, "rs:*") == set())
