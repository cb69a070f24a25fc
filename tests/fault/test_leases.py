"""Consumers that die, hang, fall silent or are handed poison: real processes, real signals, short leases."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis import connect
from tests.e2e.stack import Process, Response, Stack
from tests.fault.fragile import models_file
from tests.helpers import eventually

LEASE_MS = "1500"
LANE = keys.DEFAULT_LANE

# Processes start and leases run out meanwhile.
wait_until = partial(eventually, within_s=50.0)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


class Bench:
    """A stack whose model misbehaves as told, and eyes into its lane."""

    def __init__(self, stack: Stack, url: str, model: str, folder: Path) -> None:
        self.stack, self.model, self._folder = stack, model, folder
        self.redis = connect(url)
        self._supervised: list[threading.Thread] = []
        self._over = threading.Event()
        self.deaths = 0

    def consumer(self, **settings: str) -> Process:
        return self.stack.start_consumer(self.model, **settings)

    def keep_running(self, **settings: str) -> None:
        """Start a consumer again whenever it dies, as a supervisor does."""
        process = self.consumer(**settings)

        def watch() -> None:
            running = process
            while not self._over.wait(0.01):
                if running.popen.poll() is not None:
                    self.deaths += 1
                    running = self.consumer(**settings)

        self._supervised.append(threading.Thread(target=watch))
        self._supervised[-1].start()

    def ask(self, body: bytes, request_id: str, timeout_ms: int = 60_000) -> Response:
        return self.stack.predict(self.model, body, query=f"?id={request_id}&timeout_ms={timeout_ms}")

    def pending(self) -> int:
        found: Any = self.redis.xpending(keys.work(self.model, LANE), keys.GROUP)
        return int(found["pending"])

    def length(self) -> int:
        found: Any = self.redis.xlen(keys.work(self.model, LANE))
        return int(found)

    def dead(self) -> list[dict[bytes, bytes]]:
        found: Any = self.redis.xrange(keys.dead_letters(self.model, LANE))
        return [letter for _, letter in found]

    def batches(self) -> list[list[str]]:
        """Every batch that was run, by whomever."""
        return [line.split(" ") for noted in self._folder.glob("batches-*") for line in noted.read_text().splitlines()]

    def close(self) -> None:
        self._over.set()
        for thread in self._supervised:
            thread.join()
        self.redis.close()


@pytest.fixture
def bench(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Bench]:
    models = models_file(tmp_path, model_name)
    with Stack(valkey_url, models, LEASE_MS=LEASE_MS, LONGEST_BATCH_MS="4000", WINDOW_MS="900", MAX_BATCH="8") as stack:
        stack.start_front_end()
        made = Bench(stack, valkey_url, model_name, tmp_path)
        yield made
        made.close()


def bodies(answers: list[Response]) -> list[bytes]:
    return [bytes(answer.body["outputs"][0]["data"]) for answer in answers]


def test_row_1_a_consumer_killed_in_the_middle_of_a_batch(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    doomed = bench.consumer(WINDOW_MS="0")
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(bench.ask, b"hold", "held")
        wait_until(lambda: ["hold"] in bench.batches())
        bench.consumer(WINDOW_MS="0")
        others = [pool.submit(bench.ask, b"%d" % number, f"r{number}") for number in range(15)]
        doomed.signal(signal.SIGKILL)
        (tmp_path / "hold").unlink()
        answers = [future.result() for future in (first, *others)]
    assert bodies(answers) == [b"hold", *(b"%d" % number for number in range(15))]
    assert answers[0].body["timing"]["batch_size"] == 1
    assert (bench.length(), bench.dead()) == (0, [])


def test_row_3_a_consumer_paused_beyond_its_lease_changes_nothing(bench: Bench) -> None:
    paused = bench.consumer()
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(bench.ask, b"%d" % number, f"late-{number}") for number in range(3)]
        wait_until(lambda: bench.pending() == 3)
        paused.signal(signal.SIGSTOP)
        bench.consumer()
        answers = [future.result() for future in waiting]
    stored = [bench.redis.lrange(keys.reply(bench.model, LANE, f"late-{number}"), 0, -1) for number in range(3)]
    paused.signal(signal.SIGCONT)
    assert paused.terminate() == 0
    assert bodies(answers) == [b"0", b"1", b"2"]
    assert stored == [bench.redis.lrange(keys.reply(bench.model, LANE, f"late-{number}"), 0, -1) for number in range(3)]
    assert [len(one) for one in stored] == [1, 1, 1]


def test_row_5_a_run_that_never_returns_ends_its_consumer(bench: Bench) -> None:
    hung = bench.consumer(WINDOW_MS="0", LONGEST_BATCH_MS="1000")
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.ask, b"hang", "hangs", 4000)
        assert hung.popen.wait(60) == 70
        hung.until("may hang")
        assert bench.pending() == 1  # left to the next
        bench.keep_running(WINDOW_MS="0", LONGEST_BATCH_MS="1000")
        # Until the front end has seen the next one it says that no worker lives.
        assert wait_until(lambda: bench.ask(b"fine", "fine").status == 200)
        assert waiting.result().status == 504
    assert [batch for batch in bench.batches() if "hang" in batch] == [["hang"]] * bench.batches().count(["hang"])
    assert bench.deaths <= 2  # twice alone, at most


@pytest.mark.parametrize("where", ["hang-before", "hang-after"])
def test_what_never_returns_around_a_run_ends_its_consumer_too(bench: Bench, where: str) -> None:
    hung = bench.consumer(WINDOW_MS="0", LONGEST_BATCH_MS="1000")
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.ask, where.encode(), "hangs", 3000)
        assert hung.popen.wait(60) == 70
        hung.until("may hang")
        assert bench.pending() == 1  # left to the next
        assert waiting.result().status == 504


def test_work_that_waits_and_runs_keeps_its_lease(bench: Bench) -> None:
    """A second consumer looks for abandoned work all the time, and must not find what is held."""
    slow = bench.consumer(WINDOW_MS="3500")  # more than two leases
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(bench.ask, b"%d" % number, f"r{number}") for number in range(7)]
        other = bench.consumer()
        answers = [future.result() for future in waiting]
    assert [answer.status for answer in answers] == [200] * 7
    for process in (slow, other):
        assert f'headrace_redeliveries_total{{model="{bench.model}"}} 0.0' in bench.stack.metrics(process)


def test_row_18_an_item_that_kills_the_process_ends_alone_in_the_dead_letters(bench: Bench) -> None:
    bench.keep_running()
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(bench.ask, b"%d" % number, f"good-{number}") for number in range(7)]
        bad = pool.submit(bench.ask, b"kill", "bad")
        answers, poison = [future.result() for future in good], bad.result()
    assert bodies(answers) == [b"%d" % number for number in range(7)]
    assert (poison.status, poison.body["error"]["code"]) == (500, "crashed")
    (letter,) = bench.dead()
    assert (letter[b"id"], letter[b"crashes"]) == (b"bad", b"2")
    assert b"kill" in letter[b"m"]
    assert bench.deaths == 3  # once in company, twice alone
    assert [batch for batch in bench.batches() if "kill" in batch][1:] != []
    counted = f'headrace_dead_letters_total{{model="{bench.model}",reason="crashed"}} 1.0'
    wait_until(lambda: counted in bench.stack.metrics(bench.stack.latest))
    wait_until(lambda: bench.length() == 0)


def test_row_19_an_item_that_raises_errs_alone(bench: Bench) -> None:
    bench.consumer()
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(bench.ask, b"%d" % number, f"good-{number}") for number in range(7)]
        bad = pool.submit(bench.ask, b"raise", "bad")
        answers, culprit = [future.result() for future in good], bad.result()
    assert bodies(answers) == [b"%d" % number for number in range(7)]
    assert (culprit.status, culprit.body["error"]["code"]) == (500, "model_error")
    assert bench.dead() == []
