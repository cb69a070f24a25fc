"""Interactive requests at half of what a device does, alone and beside a bulk batch in a batch lane, in turns.

The model only sleeps, like a device far away: what runs on this machine's cores is Headrace and nothing else, and what
the device could do and what a batch costs are known.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from loadgen.load.exposition import Samples
from shared import keys
from shared.redis.client import connect
from shared.state.lanes import BATCH, kind_field
from tests.perf import scrape
from tests.perf.context import Bench, Found
from tests.perf.load import Payload, produce, told
from tests.perf.programs.waiting_model import models_file
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.sections.bulk import form_of
from tests.perf.stack import BenchError, Stack
from tests.perf.windows import Window

MODEL, LANE = "waiting", "nightly"
HALF = 0.5
NEAR_SHARE = 0.43
"""Of what the device does until the deadline, what a batch with a near one needs: less than is idle, and so much that
the gaps are not sure to do."""

ALONE, BESIDE, URGENT = "alone", "beside a bulk batch", "beside one whose deadline nears"
BEGINS_S = 2.0
_LOOK_S = 0.25
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class _Run:
    """One window.

    Attributes:
        rate: items of the batch per second.
        urgent_share: of the looks at the batch, those that found it urgent.
        met: it ended before its deadline, if it has one.
    """

    window: Window
    busy_share: float
    rate: float = 0.0
    urgent_share: float = 0.0
    met: bool = True

    def told(self) -> str:
        """One line of progress."""
        batch = f"; batch {self.rate:,.0f}/s, urgent in {self.urgent_share:.0%}" if self.rate else ""
        return f"{told(self.window)}, device busy {self.busy_share:.0%}{batch}{'' if self.met else ', TOO LATE'}"


@dataclass(frozen=True, slots=True)
class _Device:
    """A device of a certain kind: what a batch and a row of it take, and what a batch's rows cost taken along."""

    told: str
    per_batch_ms: float
    per_row_ms: float


DEVICES = (
    _Device("a device whose time goes with the rows", 5.0, 12.0),
    _Device("a device whose time goes with the batches", 60.0, 0.5),
)


def measure(bench: Bench) -> Found:
    """Measure all three in turns, on each device."""
    found = Found(settings={**bench.settings})
    for device in DEVICES:
        found.figures += _of(bench, device)
    return found


def _of(bench: Bench, device: _Device) -> list[Figure]:
    models = bench.folder / "now-and-later.toml"
    models.write_text(models_file(device.per_row_ms, device.per_batch_ms), "utf-8")
    settings = {**bench.settings, "HEADRACE_MODELS_FILE": str(models), "HEADRACE_CONSUMERS": "1"}
    payload, seconds = Payload(MODEL, bench.echo().files), bench.either(10.0, 4.0)
    runs: dict[str, list[_Run]] = {ALONE: [], BESIDE: [], URGENT: []}
    with Stack((MODEL,), settings) as stack:
        _make_lane(stack)
        capacity = produce(stack, payload, bench.either(4.0, 2.0), in_flight=256).rate_per_s
        batch_ms = device.per_batch_ms + device.per_row_ms * _batch_rows(stack, payload, round(4 * capacity))
        bench.say(f"{device.told}: {capacity:,.0f}/s; a batch of the batch lane takes {batch_ms:.0f} ms")
        count = bench.either(5, 1)
        for number in bench.rounds(count, "now and later", 240.0):
            for name, found in runs.items():
                items, deadline_s = _size(name, capacity, seconds)
                with _batch(stack, payload, items, deadline_s) as batch:
                    found.append(_window(bench, stack, payload, capacity * HALF, seconds, batch))
                bench.say(f"round {number} of {count}: {name}: {found[-1].told()}")
    return _figures(device, runs, capacity, batch_ms)


def _size(name: str, capacity: float, seconds: float) -> tuple[int, int | None]:
    """Return how many items a batch has, 0 for none, and its deadline in seconds."""
    if name == ALONE:
        return 0, None
    if name == BESIDE:
        return round(capacity * (seconds + 8)), None
    deadline_s = round(seconds + 4)
    return round(NEAR_SHARE * capacity * deadline_s), deadline_s


class _Info(msgspec.Struct):
    id: str
    state: str
    urgent: bool = False


class _Batch:
    """A bulk batch in the batch lane, and how it stands, looked at all the time."""

    def __init__(self, stack: Stack, payload: Payload, items: int, deadline_s: int | None) -> None:
        self._stack, self._path = stack, f"/v1/models/{MODEL}/batches"
        upload, content_type = form_of(payload.files[0].read_bytes(), items)
        headers = {"Content-Type": content_type, "Headrace-Lane": LANE}
        if deadline_s is not None:
            headers["Headrace-Deadline"] = f"{deadline_s}s"
        self.info = self._ask("POST", upload, headers)
        self._path = f"{self._path}/{self.info.id}"
        self.urgent: list[bool] = []
        self._stop = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def _ask(self, method: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> _Info:
        address = urlsplit(self._stack.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_LIMIT_S)
        try:
            connection.request(method, self._path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status not in (200, 201):
            raise BenchError(f"{method} {self._path} came to {answer.status}: {content[:200]!r}.")
        return msgspec.json.decode(content, type=_Info)

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self.info = self._ask("GET")
            if self.info.state == "running":
                self.urgent.append(self.info.urgent)

    def ended(self) -> bool:
        """Wait for the end; returns whether it met its deadline."""
        give_up_s = time.monotonic() + _LIMIT_S
        while self.info.state not in ("completed", "failed", "cancelled"):
            if time.monotonic() > give_up_s:
                raise BenchError("A batch has not ended.")
            time.sleep(_LOOK_S)
        return self.info.state == "completed"

    def close(self) -> None:
        """Cancel what is left, and wait until it is gone."""
        if self.info.state == "running":
            self._ask("DELETE")
        self.ended()
        self._stop.set()
        self._looking.join()


@contextmanager
def _batch(stack: Stack, payload: Payload, items: int, deadline_s: int | None) -> Iterator[_Batch | None]:
    if not items:
        time.sleep(1.0)
        yield None
        return
    batch = _Batch(stack, payload, items, deadline_s)
    try:
        time.sleep(1.0)  # it has begun
        yield batch
    finally:
        batch.close()


def _window(bench: Bench, stack: Stack, payload: Payload, rate: float, seconds: float, batch: _Batch | None) -> _Run:
    urls = stack.metrics_urls(MODEL)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(bench.generator.open, stack.url, payload, rate, seconds, 0.5)
        time.sleep(BEGINS_S)  # by then it sends
        begun_s, before = time.monotonic(), [scrape.read(url) for url in urls]
        time.sleep(seconds - BEGINS_S)
        wall_s, after = time.monotonic() - begun_s, [scrape.read(url) for url in urls]
        window = sending.result()
    if window.failed:
        raise BenchError(f"{window.failed} interactive requests failed.")
    busy_share = scrape.change(before, after, wall_s).busy_share
    if batch is None:
        return _Run(window, busy_share)
    rows = (_rows(after) - _rows(before)) / wall_s
    urgent = batch.urgent
    met = batch.ended() if any(urgent) else True
    return _Run(window, busy_share, rows - window.rate_per_s, sum(urgent) / max(1, len(urgent)), met)


def _rows(samples: Sequence[Samples]) -> float:
    return sum(value for one in samples for (name, _), value in one.items() if name == "headrace_batch_size_sum")


def _batch_rows(stack: Stack, payload: Payload, items: int) -> float:
    """Return the rows of a batch of the batch lane, with nothing else to do."""
    urls = stack.metrics_urls(MODEL)
    with _batch(stack, payload, items, None):
        before = [scrape.read(url) for url in urls]
        time.sleep(1.5)
        change = scrape.change(before, [scrape.read(url) for url in urls], 1.5)
    return change.batch_rows or 0.0


def _make_lane(stack: Stack) -> None:
    with connect(stack.redis_url) as client:
        fields: dict[str, Any] = {LANE: "2048,1", kind_field(LANE): BATCH}
        client.hset(keys.lanes(MODEL), mapping=fields)
    time.sleep(2.5)  # consumers and the front end know it then


def _figures(device: _Device, runs: dict[str, list[_Run]], capacity: float, batch_ms: float) -> list[Figure]:
    p99s = {name: [one.window.p99_ms or 0.0 for one in found] for name, found in runs.items()}
    open_loop = f"`python -m loadgen run --rate {capacity * HALF:.0f} …`, in turns"
    bulk = f"`POST /v1/models/{MODEL}/batches` with `Headrace-Lane: {LANE}`"
    figures = [Figure(what=f"{device.told}, {capacity:,.0f}/s: a batch of the batch lane takes", unit="ms",
                      values=[batch_ms], command=bulk)]  # fmt: skip
    figures += [Figure(what=f"p99 at half of that, {name}", unit="ms", values=values, command=open_loop)
                for name, values in p99s.items()]  # fmt: skip
    for name in (BESIDE, URGENT):
        figures.append(
            Figure(what=f"… longer than alone, {name}", unit="ms", command="both, in turns",
                   limit=max(0.05 * max(p99s[ALONE]), batch_ms),
                   values=[beside - alone for beside, alone in zip(p99s[name], p99s[ALONE], strict=True)])
        )  # fmt: skip
    rates = [one.rate for one in runs[BESIDE]]
    idle_time = [(1.0 - one.busy_share) * capacity for one in runs[ALONE]]
    spare = [capacity - one.window.rate_per_s for one in runs[BESIDE]]
    figures += [
        Figure(what="device busy, alone", unit="percent", values=[one.busy_share for one in runs[ALONE]],
               command="`headrace_stage_duration_seconds`"),
        Figure(what="… beside a bulk batch", unit="percent", limit=0.95, higher_is_better=True,
               values=[one.busy_share for one in runs[BESIDE]], command="the same"),
        Figure(what="what the batch gets of the time that was idle", unit="percent", limit=0.9, higher_is_better=True,
               values=[min(9.99, rate / max(1e-9, idle)) for rate, idle in zip(rates, idle_time, strict=True)],
               command="`headrace_batch_size`"),
        Figure(what="… of what the device could do besides", unit="percent", values=ratios(rates, spare),
               command="the same", higher_is_better=True),
        Figure(what="batches that met their deadline", unit="percent", limit=1.0, higher_is_better=True,
               values=[float(one.met) for one in runs[URGENT]], command=f"{bulk} and `Headrace-Deadline`"),
        Figure(what="… of the time they were urgent", unit="percent",
               values=[one.urgent_share for one in runs[URGENT]], command="the same"),
    ]  # fmt: skip
    return figures
