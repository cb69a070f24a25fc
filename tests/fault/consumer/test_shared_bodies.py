"""What becomes of bodies in shared memory when consumers die or are handed poison."""

from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.api_keys import digest_of
from shared.wire import bodies
from shared.wire.messages import decode_request
from tests.e2e.stack import Response
from tests.fault.site import LANE, Site, body_of, wait_until

SIZE_BYTES = 20_000
KEY = {"Authorization": "Bearer hr_gold"}

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


@pytest.mark.soak  # row 18 in test_leases.py is the same with bodies in the queue
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


def test_a_tenants_bodies_are_read_in_the_lane_of_its_key(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    found = tmp_path / "keys.toml"
    found.write_text(f'[keys.gold]\nlane = "gold"\nsha256 = "{digest_of(b"hr_gold").hex()}"\n')
    with Site(valkey_url, model_name, tmp_path, KEYS_FILE=str(found)) as site, ThreadPoolExecutor(1) as pool:
        site.redis.hset(keys.lanes(model_name), "gold", "100,1")
        site.consumer()
        url = f"{site.front_end()}/v1/models/{model_name}/predict"

        def ask(word: bytes) -> tuple[int, bytes]:
            headers = {**KEY, "Content-Type": "application/octet-stream"}
            request = urllib.request.Request(url, word.ljust(SIZE_BYTES), headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, bytes(json.loads(answer.read())["outputs"][0]["data"])
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, b""

        def goes_through_memory() -> bool:
            file = site.hold()
            held = pool.submit(ask, b"hold")
            work = keys.work(model_name, "gold")
            wait_until(lambda: held.done() or site.redis.xlen(work) == 1)
            entries: Any = site.redis.xrange(work)
            file.unlink()
            shared = [decode_request(fields[b"m"]).at is not None for _, fields in entries]
            return held.result() == (200, b"hold") and shared == [True]

        wait_until(goes_through_memory)
        with urllib.request.urlopen(
            urllib.request.Request(f"{site.stack.url}/metrics", headers=KEY), timeout=10
        ) as answer:
            assert "\nheadrace_bodies_resent_total 0.0\n" in answer.read().decode()
