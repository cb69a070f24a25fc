"""Switching the precision of running consumers, with real processes under load: no request is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.children import ROOT, clean_environment
from tests.e2e.runtimes.switchable import models_file
from tests.e2e.stack import Process, Response, Stack, call, shared_front_end
from tests.helpers import eventually
from tests.unit.headrace.operators import headrace

LEASE_MS = "1500"
wait_until = partial(eventually, limit_s=40.0)

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def front_end(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shared_front_end(valkey_url, tmp_path_factory.mktemp("front_end"), LEASE_MS=LEASE_MS) as url:
        yield url


@pytest.fixture
def stack(front_end: str, valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    """A front end; the consumers are the tests' business."""
    with Stack(valkey_url, models_file(tmp_path, model_name), LEASE_MS=LEASE_MS, WINDOW_MS="0") as stack:
        stack.url = front_end
        yield stack


class Command:
    """``python -m headrace precision`` in the background."""

    def __init__(self, redis_url: str, *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "headrace", "precision", *arguments],
            cwd=ROOT,
            env=clean_environment(HEADRACE_REDIS_URL=redis_url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; returns code, output and messages."""
        output, messages = self._popen.communicate(timeout=50)
        return self._popen.returncode, output, messages


def precision(redis_url: str, *arguments: str) -> tuple[int, Any]:
    """Run the command to its end, in this process; returns its code and the JSON it printed."""
    said = headrace(redis_url, "precision", *arguments, "--json")
    return said.code, said.json if said.out else said.err


class Load:
    """Requests without a pause from a few threads; each is answered or the test fails.

    Args:
        alone: whether there may be nobody to serve them for so long that they are refused with `no_worker`, or with
            `loading` where the next consumer takes its time to start.
    """

    def __init__(self, stack: Stack, model: str, alone: bool = False) -> None:
        self._stack, self._model, self._alone = stack, model, alone
        self._over = threading.Event()
        self.answers: list[tuple[bytes, Response]] = []

    def _send(self, number: int) -> None:
        count = 0
        while not self._over.wait(0.02):  # what is to happen meanwhile needs the cores, too
            body = b"%d-%d" % (number, count)
            answer = self._stack.predict(self._model, body, query="?timeout_ms=40000")
            count += 1
            if self._alone and answer.status == 503 and answer.body["error"]["code"] in ("no_worker", "loading"):
                self._over.wait(0.05)
                continue
            self.answers.append((body, answer))

    @contextmanager
    def running(self, threads: int = 4) -> Iterator[Load]:
        """Send while the block lasts; afterwards every answer must be the right one."""
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(self._send, number) for number in range(threads)]
            try:
                yield self
            finally:
                self._over.set()
            for future in futures:
                future.result()
        assert {answer.status for _, answer in self.answers} == {200}
        assert all(bytes(answer.body["outputs"][0]["data"]) == body for body, answer in self.answers)

    def some_more(self) -> None:
        """Wait until requests that are sent from now on have been answered."""
        before = len(self.answers)
        wait_until(lambda: len(self.answers) > before + 10)


def worker_states(redis_url: str, model: str) -> list[dict[str, str]]:
    with connect(redis_url) as redis:
        names = [name.decode() for name in redis.zrange(keys.workers(model), 0, -1)]
        found = [redis.hgetall(keys.worker(model, name)) for name in names]
    return [{key.decode(): value.decode() for key, value in fields.items()} for fields in found if fields]


def progress(redis_url: str, model: str) -> Sequence[str]:
    return sorted(state["progress"] for state in worker_states(redis_url, model))


def nothing_is_left(redis_url: str, model: str) -> bool:
    work = keys.work(model, keys.DEFAULT_LANE)
    with connect(redis_url) as redis:
        return (redis.xlen(work), redis.xpending(work, keys.GROUP)["pending"]) == (0, 0)


def test_two_consumers_switch_one_after_the_other_under_load(
    stack: Stack, valkey_url: str, model_name: str, tmp_path: Path
) -> None:
    consumers = [stack.start_consumer(model_name) for _ in range(2)]
    stack.wait(model_name)
    code, shown = precision(valkey_url, model_name)
    assert (code, shown["wish"], shown["outcome"]) == (0, None, "shown")
    assert [worker["precision"] for worker in shown["workers"]] == ["fp32", "fp32"]
    (tmp_path / "hold-bf16").touch()
    with Load(stack, model_name).running() as load:
        switching = Command(valkey_url, model_name, "bf16")
        wait_until(lambda: progress(valkey_url, model_name) == ["switching", "waiting"])
        wait_until((tmp_path / "hold-bf16.waits").exists)
        load.some_more()  # the other one serves meanwhile
        (tmp_path / "hold-bf16").unlink()
        code, output, messages = switching.end()
        assert (code, "every worker" in output) == (0, True), messages
        load.some_more()
    assert nothing_is_left(valkey_url, model_name)
    assert [state["precision"] for state in worker_states(valkey_url, model_name)] == ["bf16", "bf16"]
    wait_until(lambda: call(f"{stack.url}/v1/models/{model_name}").body["precision"] == "bf16")
    for consumer in consumers:
        assert 'precision="bf16"' in stack.metrics(consumer)
        assert 'precision="fp32"' not in stack.metrics(consumer)
    # Who starts later takes the wish too, whatever its environment says, and follows when it is taken back.
    third = stack.start_consumer(model_name, PRECISION="fp32")
    assert 'precision="bf16"' in stack.metrics(third)
    assert precision(valkey_url, model_name, "default")[0] == 0
    assert [state["precision"] for state in worker_states(valkey_url, model_name)] == ["fp32"] * 3


@pytest.mark.soak  # one that is refused is in tests/unit/consumer/test_worker.py
def test_a_refusal_is_told_and_the_old_precision_goes_on(stack: Stack, valkey_url: str, model_name: str) -> None:
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    with Load(stack, model_name).running(2) as load:
        for value, reason in (("tf32", "largest difference"), ("fp16", "does not run in fp16")):
            code, shown = precision(valkey_url, model_name, value)
            load.some_more()
            assert (code, shown["outcome"]) == (1, "refused")
            [worker] = shown["workers"]
            assert worker["precision"] == "fp32"
            assert reason in worker["refusal"]
    assert consumer.popen.poll() is None
    # One that starts under a wish that it must refuse serves with its own precision.
    second = stack.start_consumer(model_name)
    assert 'precision="fp32"' in stack.metrics(second)
    assert precision(valkey_url, model_name, "fp16")[0] == 1  # asked again, answered again


def test_one_killed_in_the_middle_loses_nothing_and_the_other_takes_its_turn(
    stack: Stack, valkey_url: str, model_name: str, tmp_path: Path
) -> None:
    consumers = {process.popen.pid: process for process in (stack.start_consumer(model_name) for _ in range(2))}
    stack.wait(model_name)
    (tmp_path / "hold-bf16").touch()
    with Load(stack, model_name).running() as load:
        switching = Command(valkey_url, model_name, "bf16")
        wait_until((tmp_path / "hold-bf16.waits").exists)
        doomed = consumers.pop(int((tmp_path / "hold-bf16.waits").read_text()))
        doomed.signal(signal.SIGKILL)
        doomed.popen.wait()
        load.some_more()
        (tmp_path / "hold-bf16").unlink()
        code, _, messages = switching.end()
        assert code == 0, messages
        load.some_more()
    [left] = consumers.values()
    assert 'precision="bf16"' in stack.metrics(left)
    assert nothing_is_left(valkey_url, model_name)


@pytest.mark.soak  # one of two is killed above
def test_a_consumer_killed_alone_in_the_middle_is_followed_by_one_that_takes_the_wish(
    stack: Stack, valkey_url: str, model_name: str, tmp_path: Path
) -> None:
    doomed: Process = stack.start_consumer(model_name)
    stack.wait(model_name)
    (tmp_path / "hold-bf16").touch()
    with Load(stack, model_name, alone=True).running(2) as load:
        load.some_more()
        assert precision(valkey_url, model_name, "bf16", "--timeout", "0.2")[0] == 3
        wait_until((tmp_path / "hold-bf16.waits").exists)
        doomed.signal(signal.SIGKILL)
        doomed.popen.wait()
        (tmp_path / "hold-bf16").unlink()
        next_one = stack.start_consumer(model_name)
        load.some_more()
    assert 'precision="bf16"' in stack.metrics(next_one)
    assert precision(valkey_url, model_name)[1]["workers"][-1]["progress"] == "done"


def test_sigterm_in_the_middle_of_a_switch_ends_at_once(
    stack: Stack, valkey_url: str, model_name: str, tmp_path: Path
) -> None:
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    (tmp_path / "hold-bf16").touch()
    assert precision(valkey_url, model_name, "bf16", "--timeout", "0.2")[0] == 3
    wait_until((tmp_path / "hold-bf16.waits").exists)
    assert consumer.terminate() == 0
    with connect(valkey_url) as redis:
        assert redis.exists(keys.turn(model_name)) == 0


def test_usage_is_one_sentence_and_exit_2(valkey_url: str, model_name: str) -> None:
    for arguments, part in (
        ((model_name, "fp8"), "must be one of auto, fp32"),
        ((model_name,), "No consumer has ever served a model"),
        (("no}such",), "No consumer has ever served a model"),
    ):
        said = headrace(valkey_url, "precision", *arguments)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert part in said.err
    said = headrace("redis://127.0.0.1:1/0", "precision", model_name)
    assert (said.code, said.err.count("\n")) == (1, 1)


@pytest.mark.soak
def test_a_wish_for_a_model_that_nobody_serves_now_is_kept(stack: Stack, valkey_url: str, model_name: str) -> None:
    assert stack.start_consumer(model_name).terminate() == 0
    code, shown = precision(valkey_url, model_name, "bf16")
    assert (code, shown["outcome"], shown["workers"]) == (0, "stored", [])
    assert 'precision="bf16"' in stack.metrics(stack.start_consumer(model_name))


def test_a_model_slower_than_the_deadline_gets_504_in_time_and_lives_on(
    stack: Stack, valkey_url: str, model_name: str, tmp_path: Path
) -> None:
    consumer = stack.start_consumer(model_name, MAX_BATCH="2")
    stack.wait(model_name)
    (tmp_path / "slow").touch()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: stack.predict(model_name, b"x", query="?timeout_ms=300"), range(6)))
    # All of these came while the model was still held.
    assert (tmp_path / "slow.waits").exists()
    assert {(answer.status, answer.body["error"]["code"]) for answer in answers} == {(504, "unknown_outcome")}
    (tmp_path / "slow").unlink()
    assert stack.predict(model_name, b"after").status == 200
    wait_until(lambda: nothing_is_left(valkey_url, model_name))
    assert consumer.popen.poll() is None
    wait_until(lambda: stack.ended(consumer, "expired") > 0)
