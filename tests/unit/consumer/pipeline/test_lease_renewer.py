"""Leases are renewed while there is progress, and not one moment after something has hung."""

from __future__ import annotations

import threading

import pytest

from consumer.pipeline.lease_renewer import Hung, LeaseRenewer
from consumer.pipeline.leases import Watchdog
from shared.settings import Settings
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.helpers import eventually
from tests.unit.consumer.parts import CARD, SETTINGS, a_context, joined, message, on_thread

LEASE_MS = 40


class Bench:
    """A renewer on a lane in memory whose clock the test moves."""

    def __init__(self, longest_ms: int = 60_000) -> None:
        self.now_ms = 1_000_000.0
        self.lane = InMemoryLane(lambda: self.now_ms)
        self.stream = InMemoryStream(self.lane, SETTINGS, "one")
        self.stream.heartbeat(CARD, {})
        self.stop = threading.Event()
        settings = Settings(lease_ms=LEASE_MS, longest_batch_ms=longest_ms)
        self.context = a_context(self.stream, settings)
        self.leases, self.watchdog = self.context.leases, self.context.watchdog
        self.renewer = LeaseRenewer(self.context)

    def hold(self) -> None:
        self.lane.add({b"m": message("a")})
        (entry,) = self.stream.read(1)
        self.leases.take(entry.claim)

    def idle(self) -> bool:
        """Whether another could take over what this one holds."""
        return bool(InMemoryStream(self.lane, SETTINGS, "other").reclaim(1))


def test_what_is_held_is_renewed() -> None:
    bench = Bench()
    bench.hold()
    bench.now_ms += SETTINGS.lease_ms
    running = on_thread("keep", lambda: bench.renewer.run(bench.stop))
    group = bench.lane.stream.group  # type: ignore[union-attr]
    assert group is not None
    eventually(lambda: all(held.since_ms == bench.now_ms for held in group.pending.values()))
    bench.stop.set()
    assert joined(running)
    assert not bench.idle()


@pytest.mark.parametrize("what", ["batch", b"1-0"])
def test_what_hangs_is_not_protected(what: object) -> None:
    bench = Bench(longest_ms=1)
    bench.hold()
    bench.now_ms += SETTINGS.lease_ms
    bench.watchdog.begin(what, 0.0)  # long ago
    with pytest.raises(Hung):
        bench.renewer.run(bench.stop)
    assert bench.idle()


def test_a_queue_that_goes_away_is_tried_until_it_answers() -> None:
    bench = Bench()
    bench.hold()
    bench.lane.down = True
    running = on_thread("keep", lambda: bench.renewer.run(bench.stop))
    running.join(LEASE_MS / 1000)
    assert running.is_alive()
    bench.now_ms += SETTINGS.lease_ms
    bench.lane.down = False
    group = bench.lane.stream.group  # type: ignore[union-attr]
    assert group is not None
    eventually(lambda: all(held.since_ms == bench.now_ms for held in group.pending.values()))
    bench.stop.set()
    assert joined(running)


def test_what_the_dead_left_is_cleared_up_by_consumers_that_do_not_live_for_a_lease_themselves() -> None:
    bench = Bench()
    InMemoryStream(bench.lane, SETTINGS, "dead").read(1)
    bench.now_ms += 5 * SETTINGS.lease_ms
    bench.stream.heartbeat(CARD, {})
    renewer = LeaseRenewer(a_context(bench.stream, Settings(lease_ms=3_600_000, longest_batch_ms=60_000)))
    running = on_thread("keep", lambda: renewer.run(bench.stop))
    group = bench.lane.stream.group  # type: ignore[union-attr]
    assert group is not None
    eventually(lambda: "dead" not in group.consumers)
    bench.stop.set()
    assert joined(running)


def test_progress_is_as_old_as_the_oldest_of_what_is_under_way() -> None:
    watchdog = Watchdog()
    assert watchdog.longest_s(5.0) == 0.0
    watchdog.begin("batch", 1.0)
    watchdog.begin(b"picture", 2.0)
    assert watchdog.longest_s(5.0) == 4.0
    watchdog.end("batch")
    assert watchdog.longest_s(5.0) == 3.0
    watchdog.begin("batch", 4.5)
    watchdog.end(b"picture")
    assert watchdog.longest_s(5.0) == 0.5
    watchdog.end("batch")
    watchdog.end("batch")
    assert watchdog.longest_s(5.0) == 0.0
