"""What becomes of bodies in shared memory when consumers die or are handed poison."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared import bodies, keys
from shared.wire import decode_request
from tests.e2e.stack import Response
from tests.fault.site import LANE, Site, body_of, wait_until

SIZE_BYTES = 20_000

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not bodies.ROOT.is_dir(), reason="there is no /dev/shm"),
]


@pytest.fixture
def site(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Site]:
    settings = {"LEASE_MS": "1500", "LONGEST_BATCH_MS": "4000", "WINDOW_MS": "900", "MAX_BATCH": "8"}
    with Site(valkey_url, model_name, tmp_path, **settings) as made:
        made.front_end()
        yield made


def _ask(site: Site, word: bytes) -> Response:
    return site.ask(word.ljust(SIZE_BYTES), timeout_ms=60_000)


def _are_shared(site: Site) -> bool:
    """Say whether a body goes through shared memory now."""
    file = site.hold()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(_ask, site, b"hold")
        wait_until(lambda: site.length() == 1)
        found: Any = site.redis.xrange(site.work)
        file.unlink()
        assert body_of(held.result()) == b"hold"
    return decode_request(found[0][1][b"m"]).at is not None


def test_an_item_that_kills_the_process_ends_alone_with_all_of_its_body(site: Site) -> None:
    over, deaths = threading.Event(), list[int]()

    def keep_running() -> None:
        running = site.consumer()
        while not over.wait(0.01):
            if running.popen.poll() is not None:
                deaths.append(running.popen.returncode)
                running = site.consumer()

    supervisor = threading.Thread(target=keep_running)
    supervisor.start()
    try:
        site.stack.wait(site.model)
        wait_until(lambda: _are_shared(site))
        with ThreadPoolExecutor(8) as pool:
            good = [pool.submit(_ask, site, b"%d" % number) for number in range(7)]
            poison = pool.submit(_ask, site, b"kill").result()
        assert [body_of(one.result()) for one in good] == [b"%d" % number for number in range(7)]
        assert (poison.status, poison.body["error"]["code"]) == (500, "crashed")
        letters: Any = site.redis.xrange(keys.dead_letters(site.model, LANE))
        ((_, letter),) = letters
        assert letter[b"crashes"] == b"2"
        assert decode_request(letter[b"m"]).body == b"kill".ljust(SIZE_BYTES)
        # In company, once more with its body, and twice alone.
        assert deaths == [-signal.SIGSEGV] * 4
        wait_until(lambda: site.length() == 0)
    finally:
        over.set()
        supervisor.join()
