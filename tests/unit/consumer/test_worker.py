"""A whole consumer on a queue in memory: it loads, serves, switches, drains and ends."""

from __future__ import annotations

import ast
import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from consumer.config import ConsumerConfig, resolve
from consumer.metrics import ALWAYS_SHOWN, ConsumerMetrics
from consumer.models.base import Model
from consumer.pipeline.decoding.stage import Decoding
from consumer.pipeline.executor import BatchExecutor
from consumer.queue.interface import Cause
from consumer.worker import Worker
from shared.process.exit_codes import MODEL_CANNOT_LOAD, SOFTWARE_ERROR
from shared.settings import Settings
from shared.state.desired_state import DesiredPrecision
from shared.wire import outcomes
from shared.wire.messages import Reply, Request, decode_reply
from tests.children import ROOT
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.fakes import NoBoard
from tests.helpers import eventually
from tests.unit.consumer.parts import Toy, joined, message

SETTINGS = {"HEADRACE_LEASE_MS": "1500", "HEADRACE_WINDOW_MS": "0"}


class Weights:
    """What must not be in memory twice."""


class Heavy(Toy):
    """A toy with weights. ``refused`` precisions cannot be loaded; tf32 is 50% off."""

    alive: weakref.WeakSet[Weights] = weakref.WeakSet()
    most = 0
    refused: set[str] = set()

    def load(self, device: str, precision: str) -> None:
        """Count what is alive."""
        self.weights = Weights()
        Heavy.alive.add(self.weights)
        Heavy.most = max(Heavy.most, len(Heavy.alive))
        self.factor = 1.5 if precision == "tf32" else 1.0
        if precision in Heavy.refused:
            raise ValueError(f"not in {precision}.")

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Numbers for samples, capitals for requests."""
        if rows[0] == b"sample":
            return [np.arange(4.0) * self.factor + number for number, _ in enumerate(rows)]
        return super().run(rows)


@pytest.fixture(autouse=True)
def counts() -> Iterator[None]:
    Heavy.alive.clear()
    Heavy.most, Heavy.refused = 0, set()
    yield
    while House.begun:
        House.begun.pop().abandon()


def configured(folder: Path, **settings: str) -> ConsumerConfig:
    models = folder / "models.toml"
    models.write_text('[models.toy]\nfamily = "echo"\n')
    environment = {**SETTINGS, "HEADRACE_MODELS_FILE": str(models)}
    environment |= {f"HEADRACE_{name}": value for name, value in settings.items()}
    return resolve(Settings.from_env(environment), "toy", 0)


class Padding(Heavy):
    """Fills every batch up to four rows."""

    padded = 0

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Count the rows that are missing."""
        self.padded += -len(rows) % 4
        return super().run(rows)

    def padded_rows(self) -> int:
        """All so far, of warming up too."""
        return self.padded


def raising(error: BaseException) -> Callable[..., None]:
    """A function that takes anything and raises ``error``."""

    def breaks(*arguments: object, **options: object) -> None:
        raise error

    return breaks


class House:
    """A worker on a thread, its queue, and what it exports."""

    begun: list[House] = []

    def __init__(self, config: ConsumerConfig, build: type[Model] = Heavy) -> None:
        self.lane = InMemoryLane()
        self.registry = CollectorRegistry()
        self.stream = InMemoryStream(self.lane, config.settings, "me")
        self.worker = Worker(
            config, build, self.stream, ConsumerMetrics(self.registry, "toy"), None, NoBoard(), frozenset()
        )
        self.status: int | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.begun.append(self)

    def _run(self) -> None:
        self.status = self.worker.run()

    @contextmanager
    def open(self) -> Iterator[House]:
        self.thread.start()
        eventually(lambda: self.lane.workers)
        yield self
        self.worker.stop()
        assert joined(self.thread)

    def abandon(self) -> None:
        """Have what still runs end, as the end of its process would: here it would beat beside later tests."""
        self.worker.stop()
        if self.thread.ident is not None:
            self.thread.join(10.0)
        threads = self.worker._threads
        threads.cause = error = threads.cause or SystemExit(0)  # which they end with without a word
        for step in (*STAGES.values(), "renew"):
            setattr(self.stream, step, raising(error))
        leases = self.worker._pipeline._context.leases
        leases.release(leases.held())  # a renewal that is under way has nothing left to miss

    def ask(self, request_id: str) -> tuple[str, str | None]:
        """Send a request and wait; returns the precision that answered and the data's beginning."""
        self.lane.add({b"m": message(request_id, b"hello")})
        reply = self.answer(request_id)
        assert reply.outputs is not None
        return reply.model.precision, reply.outputs[0].data.decode()

    def answer(self, request_id: str) -> Reply:
        """Wait for a reply."""
        found = eventually(lambda: self.lane.reply(request_id))
        assert found is not None
        return decode_reply(found)

    def state(self) -> dict[str, str]:
        return dict(self.lane.worker_fields.get("me", {}))

    def counter(self, name: str, **labels: str) -> float | None:
        """What is exported."""
        return self.registry.get_sample_value(f"headrace_{name}_total", {"model": "toy", **labels})

    def settled(self, token: str) -> dict[str, str]:
        """Wait until a wish is done or refused; returns what the worker says then."""

        def there() -> dict[str, str] | None:
            state = self.state()
            return state if state.get("token") == token and state["progress"] in ("done", "refused") else None

        found = eventually(there)
        assert found is not None
        return found


def test_it_switches_answers_and_tells_and_never_holds_two_models(tmp_path: Path) -> None:
    with House(configured(tmp_path)).open() as house:
        assert house.ask("a") == ("fp32", "HELLO")
        for token, precision in (("w1", "bf16"), ("w2", "fp16"), ("w3", "default")):
            house.lane.desired_precision = DesiredPrecision(precision, token)
            state = house.settled(token)
            runs = "fp32" if precision == "default" else precision
            assert (state["progress"], state["precision"], state["refusal"]) == ("done", runs, "")
            assert house.lane.card["precision"] == f'"{runs}"'.encode()
            assert state["runtime"] == "" == json.loads(house.lane.card["runtime"])  # code of its own
            assert state["preferred"] == str(json.loads(house.lane.card["batch"])["preferred"])
            assert state["loaded_s"].isdigit()
            assert house.ask(token) == (runs, "HELLO")
            exported = generate_latest(house.registry).decode()
            assert exported.count("headrace_model_info{") == 1
            assert f'precision="{runs}"' in exported
        assert Heavy.most == 1
    assert (house.status, house.lane.workers) == (0, {})


def test_each_load_is_closed_once_and_before_the_next(tmp_path: Path) -> None:
    lives: list[tuple[str, int, int]] = []

    class Mortal(Heavy):
        def load(self, device: str, precision: str) -> None:
            lives.append(("load", id(self), threading.get_ident()))
            super().load(device, precision)

        def close(self) -> None:
            lives.append(("close", id(self), threading.get_ident()))

        def precisions(self, device: str) -> Sequence[str]:
            return ("fp32", "bf16", "tf32")

    Heavy.refused = {"fp16"}
    with House(configured(tmp_path), Mortal).open() as house:
        for token, precision in (("w1", "bf16"), ("w2", "tf32"), ("w3", "fp16")):
            house.lane.desired_precision = DesiredPrecision(precision, token)
            house.settled(token)
        house.ask("a")
        assert [event for event, _, _ in lives[-2:]] == ["close", "load"]
    assert len(lives) >= 16  # fp32 and two others at the start, then fp32 and another for each wish, some loaded again
    assert [event for event, _, _ in lives] == ["load", "close"] * (len(lives) // 2)
    assert all(loaded[1:] == closed[1:] for loaded, closed in zip(lives[::2], lives[1::2], strict=True))


@pytest.mark.parametrize(("precision", "reason"), [("bf16", "not in bf16."), ("tf32", "largest difference")])
def test_a_refused_wish_changes_nothing(tmp_path: Path, precision: str, reason: str) -> None:
    Heavy.refused = {"bf16"}
    with House(configured(tmp_path)).open() as house:
        house.lane.desired_precision = DesiredPrecision(precision, "w1")
        state = house.settled("w1")
        assert (state["progress"], state["precision"]) == ("refused", "fp32")
        assert reason in state["refusal"]
        assert house.ask("a") == ("fp32", "HELLO")
        assert Heavy.most == 1
    assert house.status == 0


def test_a_wish_that_is_there_at_the_start_wins_and_a_refused_one_does_not(tmp_path: Path) -> None:
    for refused, runs, progress in ((set[str](), "bf16", "done"), ({"bf16"}, "fp16", "refused")):
        Heavy.refused = refused
        house = House(configured(tmp_path, PRECISION="fp16"))
        house.lane.desired_precision = DesiredPrecision("bf16", "w1")
        with house.open():
            state = house.settled("w1")
            assert (state["progress"], state["precision"]) == (progress, runs)
            assert house.ask("a") == (runs, "HELLO")


def test_a_model_that_cannot_come_back_ends_the_process_with_the_models_status(tmp_path: Path) -> None:
    house = House(configured(tmp_path))
    with house.open():
        Heavy.refused = {"bf16", "fp32"}
        house.lane.desired_precision = DesiredPrecision("bf16", "w1")
        assert joined(house.thread)
    assert house.status == MODEL_CANNOT_LOAD


def test_a_precision_of_its_own_that_is_refused_ends_it_at_the_start(tmp_path: Path) -> None:
    Heavy.refused = {"bf16"}
    house = House(configured(tmp_path, PRECISION="bf16"))
    house.thread.start()
    assert joined(house.thread)
    assert house.status == MODEL_CANNOT_LOAD


def test_a_close_that_hangs_at_a_switch_ends_the_process_to_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    monkeypatch.setattr("consumer.loading.closing.CLOSE_S", 0.1)

    class Stuck(Heavy):
        serves = False

        def run(self, rows: Sequence[Any]) -> Sequence[Any]:
            self.serves = self.serves or rows[0] != b"sample"
            return super().run(rows)

        def close(self) -> None:
            if self.serves:
                held.wait()

    house = House(configured(tmp_path), Stuck)
    with house.open():
        house.ask("a")
        house.lane.desired_precision = DesiredPrecision("bf16", "w1")
        assert joined(house.thread)
    held.set()
    assert house.status == SOFTWARE_ERROR


def test_what_is_claimed_when_the_wish_comes_is_answered_first(tmp_path: Path) -> None:
    gate, running = threading.Event(), threading.Event()

    class Slow(Heavy):
        def run(self, rows: Sequence[Any]) -> Sequence[Any]:
            if rows[0] != b"sample":
                running.set()
                gate.wait(10)
            return super().run(rows)

    with House(configured(tmp_path, MAX_BATCH="1"), Slow).open() as house:
        for name in ("a", "b", "c"):
            house.lane.add({b"m": message(name, b"hello")})
        assert running.wait(10)
        house.lane.desired_precision = DesiredPrecision("bf16", "w1")
        eventually(lambda: house.state().get("progress") == "switching")
        gate.set()
        house.settled("w1")
        replies = [house.answer(name) for name in ("a", "b", "c")]
        assert all(reply.outputs is not None for reply in replies)
        assert replies[0].model.precision == "fp32"
        assert house.lane.stream is not None
        assert house.lane.stream.entries == {}


def test_a_wish_while_the_queue_is_away_is_followed_when_it_is_back(tmp_path: Path) -> None:
    with House(configured(tmp_path)).open() as house:
        house.lane.down = True
        house.lane.desired_precision = DesiredPrecision("bf16", "w1")
        house.lane.down = False
        assert house.settled("w1")["precision"] == "bf16"


def test_padding_is_counted_while_it_serves_and_over_a_switch(tmp_path: Path) -> None:
    with House(configured(tmp_path), Padding).open() as house:
        house.ask("a")
        assert house.counter("batch_padded_rows") == 3
        house.lane.desired_precision = DesiredPrecision("bf16", "w1")
        assert house.settled("w1")["progress"] == "done"
        assert house.counter("batch_padded_rows") == 3
        house.ask("b")
        assert house.counter("batch_padded_rows") == 6


def test_failures_and_dead_letters_are_at_0_until_there_are_some(tmp_path: Path) -> None:
    with House(configured(tmp_path)).open() as house:
        house.ask("a")
        assert [house.counter("items", outcome=one.code) for one in ALWAYS_SHOWN[1:]] == [0] * len(ALWAYS_SHOWN[1:])
        assert [house.counter("dead_letters", reason=one) for one in Cause] == [0, 0, 0]
        house.lane.add({b"m": b"\xc1"})
        eventually(lambda: house.counter("dead_letters", reason="unreadable") == 1)
        assert house.counter("malformed_entries") == 1


def test_every_failure_that_a_consumer_names_is_at_0_from_the_start() -> None:
    imports = [
        node
        for path in (ROOT / "consumer").rglob("*.py")
        if path.name != "metrics.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "shared.wire.outcomes"
    ]
    named = [getattr(outcomes, alias.name) for node in imports for alias in node.names]
    failures = {one for one in named if isinstance(one, outcomes.Outcome) and one.status >= 500 and one.status != 501}
    assert failures == set(ALWAYS_SHOWN) - {outcomes.OK}


class Panic(BaseException):
    """As what Rust's extension modules raise."""


STAGES = {
    "fetch": "read",
    "commit": "commit",
    "leases": "reap",
    "heartbeat": "heartbeat",
    "cancellations": "terminations",
}
ENDINGS = [SystemExit(0), Panic("no more"), KeyboardInterrupt(), GeneratorExit(), ZeroDivisionError("a bug")]


@pytest.mark.parametrize(
    ("stage", "error"),
    [*((stage, ENDINGS[0]) for stage in STAGES), *(("commit", error) for error in ENDINGS[1:])],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_whatever_ends_a_stage_ends_the_process_with_its_cause(
    tmp_path: Path, stage: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(configured(tmp_path, DEVICE="cpu"))
    house.thread.start()
    eventually(lambda: house.lane.workers)
    setattr(house.stream, STAGES[stage], raising(error))
    for number in range(8):  # more than are committed at once
        house.lane.add({b"m": message(f"a-{number}", b"hello")})
    assert joined(house.thread), "a stage is gone, and nobody noticed"
    assert house.status == SOFTWARE_ERROR
    told = [record for record in caplog.records if "stage crashed" in record.message]
    assert len(told) == 1
    assert told[0].exc_info is not None
    assert told[0].exc_info[1] is error


def test_whatever_ends_a_thread_of_the_pool_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(decoding: Decoding, job: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(Decoding, "_decode", breaks)
    house = House(configured(tmp_path, DEVICE="cpu"))
    house.thread.start()
    eventually(lambda: house.lane.workers)
    house.lane.add({b"m": message("a", b"picture")})
    assert joined(house.thread), "a future was not read, and nobody noticed"
    assert house.status == SOFTWARE_ERROR
    assert "The decode stage crashed" in caplog.text


def test_a_crash_of_the_running_thread_does_not_wait_for_a_decoder_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(Heavy):
        def preprocess(self, request: Request) -> Sequence[bytes]:
            if request.body == b"picture":
                hangs.set()
                goes_on.wait()
            return super().preprocess(request)

    def breaks(*arguments: object) -> None:
        raise Panic("no more")

    house = House(configured(tmp_path, DEVICE="cpu"), Hanging)
    house.thread.start()
    eventually(lambda: house.lane.workers)
    house.lane.add({b"m": message("a", b"picture")})
    assert hangs.wait(10.0)
    monkeypatch.setattr(BatchExecutor, "run_batch", breaks)
    house.lane.add({b"m": message("b", b"hello")})
    try:
        assert joined(house.thread)
        assert house.status == SOFTWARE_ERROR
    finally:
        goes_on.set()


@pytest.mark.parametrize("error", [SystemExit(2), Panic("no more"), ZeroDivisionError("a bug")])
@pytest.mark.parametrize("step", ["load", "sample_rows"])
def test_whatever_ends_loading_ends_the_process_with_its_cause(
    tmp_path: Path, step: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*arguments: object) -> None:
        raise error

    house = House(configured(tmp_path, DEVICE="cpu"), type("Broken", (Heavy,), {step: breaks}))
    house.thread.start()
    assert joined(house.thread), "loading has ended, and nobody noticed"
    assert house.status not in (None, 0)
    assert type(error).__name__ in caplog.text


def test_a_panic_in_another_precision_goes_on_with_the_old_one(tmp_path: Path) -> None:
    class Picky(Heavy):
        def load(self, device: str, precision: str) -> None:
            if precision == "bf16":
                raise Panic("not in bf16")
            super().load(device, precision)

    house = House(configured(tmp_path, DEVICE="cpu"), Picky)
    with house.open():
        assert house.ask("a") == ("fp32", "HELLO")
        house.lane.desired_precision = DesiredPrecision("bf16", "one")
        eventually(lambda: house.state().get("progress") == "refused")
        assert house.ask("b") == ("fp32", "HELLO")
        assert house.state()["refusal"] == "Panic: not in bf16."
