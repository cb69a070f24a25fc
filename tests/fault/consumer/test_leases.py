"""Consumers that die, hang, fall silent or are handed poison: real processes, real signals, short leases."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.e2e.stack import Process, Response, Stack, shared_front_end
from tests.fault.fragile import models_file
from tests.fault.load import Load
from tests.fault.site import metric, redeliveries
from tests.helpers import eventually, first

LEASE_MS = "1500"
LEASE_S, SCAN_S = 1.5, 0.5
BUSY_S = 4.0
"""Generous: for running, on a machine that has other things to do."""
LANE = keys.DEFAULT_LANE

# Processes start and leases run out meanwhile.
wait_until = partial(eventually, limit_s=50.0)

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

    def runs_of(self, rows: Sequence[str]) -> list[int]:
        """How often each row was run."""
        ran = Counter(row for batch in self.batches() for row in batch)
        return [ran[row] for row in rows]

    def committed(self, process: Process) -> float:
        """How many answers a consumer has committed, whether or not they counted."""
        return metric(self.stack, process, f'headrace_items_total{{model="{self.model}",outcome="ok"}}')

    def close(self) -> None:
        self._over.set()
        for thread in self._supervised:
            thread.join()
        self.redis.close()


SETTINGS = {"LEASE_MS": LEASE_MS, "LONGEST_BATCH_MS": "4000", "WINDOW_MS": "900", "MAX_BATCH": "8"}


@pytest.fixture(scope="module")
def front_end(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shared_front_end(valkey_url, tmp_path_factory.mktemp("front_end"), **SETTINGS) as url:
        yield url


@pytest.fixture
def bench(front_end: str, valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Bench]:
    with Stack(valkey_url, models_file(tmp_path, model_name), **SETTINGS) as stack:
        stack.url = front_end
        made = Bench(stack, valkey_url, model_name, tmp_path)
        yield made
        made.close()


def bodies(answers: list[Response]) -> list[bytes]:
    return [bytes(answer.body["outputs"][0]["data"]) for answer in answers]


def replies(bench: Bench, ids: Sequence[str]) -> list[list[bytes]]:
    """What the reply key of each id holds."""
    with bench.redis.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.lrange(keys.reply(bench.model, LANE, one), 0, -1)
        found: Any = pipe.execute()
        return list(found)


def ask_for(bench: Bench, body: str) -> tuple[Response, float]:
    """Ask with the body as the id; returns when the answer came, too."""
    return bench.ask(body.encode(), body, 30_000), time.monotonic()


def kill(process: Process, folder: Path) -> float:
    """Kill a consumer that is held; returns when."""
    process.signal(signal.SIGKILL)
    process.popen.wait()
    killed_s = time.monotonic()
    (folder / "hold").unlink()
    return killed_s


def assert_taken_over(held: Sequence[str], ended: Sequence[tuple[Response, float]], killed_s: float) -> None:
    """Each is answered, has run alone, and in time."""
    assert bodies([answer for answer, _ in ended]) == [body.encode() for body in held]
    assert [answer.body["timing"]["batch_size"] for answer, _ in ended] == [1] * len(held)
    assert max(came_s for _, came_s in ended) - killed_s < LEASE_S + SCAN_S + BUSY_S


def test_row_1_a_consumer_killed_in_the_middle_of_a_batch(bench: Bench, tmp_path: Path) -> None:
    """Eight run in one batch; of the requests of others, who ask all the time, some wait in the same consumer."""
    (tmp_path / "hold").touch()
    held = [f"hold-{number}" for number in range(8)]
    doomed = bench.consumer()
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(len(held)) as pool:
        waiting = [pool.submit(ask_for, bench, body) for body in held]
        wait_until(lambda: held in [sorted(batch) for batch in bench.batches()])
        bench.consumer(WINDOW_MS="0")
        # As many as fit into one more batch wait in the first consumer, the others are answered by the second.
        with Load(bench, clients=12, timeout_ms=30_000) as load:
            wait_until(lambda: load.answered >= 20)
            killed_s = kill(doomed, tmp_path)
            ended = [one.result() for one in waiting]
            before = load.answered
            wait_until(lambda: load.answered >= before + 20)
    assert_taken_over(held, ended, killed_s)
    assert (load.wrong, set(load.statuses())) == ([], {200})
    assert [len(one) for one in replies(bench, [*held, *load.asked])] == [1] * (len(held) + len(load.asked))
    assert (bench.length(), bench.dead()) == (0, [])


def test_row_1_work_left_behind_does_not_wait_for_new_work(bench: Bench, tmp_path: Path) -> None:
    """It is taken over one by one, by a consumer that reads new requests meanwhile, of which there are none."""
    (tmp_path / "hold").touch()
    held = [f"hold-{number}" for number in range(24)]
    doomed = bench.consumer(MAX_BATCH="24")
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(len(held)) as pool:
        waiting = [pool.submit(ask_for, bench, body) for body in held]
        wait_until(lambda: bench.pending() == len(held) and any(bench.runs_of(held)))
        bench.consumer(WINDOW_MS="5")
        killed_s = kill(doomed, tmp_path)
        ended = [one.result() for one in waiting]
    assert_taken_over(held, ended, killed_s)
    assert [len(one) for one in replies(bench, held)] == [1] * len(held)
    assert (bench.length(), bench.dead()) == (0, [])


def test_row_3_a_consumer_paused_beyond_its_lease_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    """It is paused in the middle of a run, and commits what came of that when another has answered."""
    ids = [f"hold-{number}" for number in range(3)]
    (tmp_path / "hold").touch()
    paused = bench.consumer()
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(len(ids)) as pool:
        waiting = [pool.submit(bench.ask, one.encode(), one) for one in ids]
        wait_until(lambda: bench.pending() == 3 and bench.runs_of(ids) != [0, 0, 0])
        before = bench.committed(paused)
        paused.signal(signal.SIGSTOP)
        (tmp_path / "hold").unlink()
        bench.consumer()
        answers = [future.result() for future in waiting]
    stored = replies(bench, ids)
    paused.signal(signal.SIGCONT)
    wait_until(lambda: bench.committed(paused) == before + 3)
    assert paused.terminate() == 0
    assert bodies(answers) == [one.encode() for one in ids]
    assert bench.runs_of(ids) == [2, 2, 2]
    assert [len(one) for one in stored] == [1, 1, 1]
    assert replies(bench, ids) == stored
    assert (bench.length(), bench.dead()) == (0, [])


@pytest.mark.parametrize(
    ("where", "runs"),
    first(1, [("hold", 2), ("dawdle", 1), ("linger", 2)]),
    ids=["in the run", "before it", "after it"],
)
def test_row_5_what_never_returns_ends_its_consumer(bench: Bench, tmp_path: Path, where: str, runs: int) -> None:
    """The next consumer, where it does return, takes it over."""
    (tmp_path / "hold").touch()
    hung = bench.consumer(WINDOW_MS="0", LONGEST_BATCH_MS="1000")
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.ask, where.encode(), "hangs", 30_000)
        assert hung.popen.wait(60) == 70
        hung.until("may hang")
        assert bench.pending() == 1  # left to the next
        (tmp_path / "hold").unlink()
        following = bench.consumer(WINDOW_MS="0", LONGEST_BATCH_MS="1000")
        answer = waiting.result()
    assert bodies([answer]) == [where.encode()]
    assert bench.runs_of([where]) == [runs]
    assert redeliveries(bench.stack, bench.model, following) == 1.0
    assert (bench.length(), bench.dead()) == (0, [])


def test_work_that_waits_and_runs_keeps_its_lease(bench: Bench) -> None:
    """A second consumer looks for abandoned work all the time, and must not find what is held."""
    slow = bench.consumer(WINDOW_MS="3500")  # more than two leases
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(bench.ask, b"%d" % number, f"r{number}") for number in range(7)]
        other = bench.consumer()
        answers = [future.result() for future in waiting]
    assert [answer.status for answer in answers] == [200] * 7
    assert [redeliveries(bench.stack, bench.model, process) for process in (slow, other)] == [0.0, 0.0]


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
