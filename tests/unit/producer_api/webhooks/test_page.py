"""docs/webhooks.md says what the code does: every event, header and number."""

from __future__ import annotations

import re
from pathlib import Path

from producer_api.net.addresses import MOST_URL_CHARACTERS
from producer_api.net.egress import Limits
from producer_api.routes.webhooks import SMALL_BYTES
from producer_api.webhooks import courier, hook, outbox, schedule
from shared import limits

PAGE = (Path(__file__).parents[4] / "docs/webhooks.md").read_text(encoding="utf-8")


def test_every_event_and_header_has_a_row() -> None:
    rows = set(re.findall(r"^\| `([\w.-]+)` \|", PAGE, re.MULTILINE))
    assert rows == {*hook.REQUEST_EVENTS, *hook.BATCH_EVENTS, hook.URL, hook.EVENTS, hook.INCLUDE}


def test_the_bounds_of_the_waits_are_those_of_the_schedule() -> None:
    [cells] = re.findall(r"^\| at most \| (.*) \|$", PAGE, re.MULTILINE)
    units = {"s": 1, "min": 60, "h": 3600}
    shown = [float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) (s|min|h)", cells)]
    bounds = [schedule.bound_s(attempts) for attempts in range(1, schedule.MOST_ATTEMPTS)]
    assert len(shown) == len(bounds)
    for said, bound_s in zip(shown, bounds, strict=True):
        assert abs(said - bound_s) < 0.07 * bound_s


def test_the_numbers_are_those_of_the_code() -> None:
    assert schedule.MOST_ATTEMPTS == 10
    assert "tries ten times" in PAGE
    assert f"at most {MOST_URL_CHARACTERS:,} characters" in PAGE
    assert f"at most {SMALL_BYTES // 1024} KiB" in PAGE
    assert f"Answer 2xx within {Limits().total_s:g} seconds" in PAGE
    assert f"more than {Limits().total_s:g} s ({Limits().connect_s:g} s to connect)" in PAGE
    assert f"connects to {courier.MOST_HOSTS} hosts at once" in PAGE
    assert courier.AT_ONCE == 8
    assert "at most eight attempts at once" in PAGE
    assert f"waited for {schedule.LONGEST_S / 3600:g} hours" in PAGE
    assert schedule.LONGEST_PAUSE_S == 300
    assert "up to five minutes" in PAGE
    assert outbox.LEASE_MS == 10_000
    assert "repeated after ten seconds" in PAGE
    assert f"while {limits.HOOKS_CAP:,} of its requests and batches" in PAGE
    assert f"the last {limits.HOOKS_DEAD_CAP:,} are kept for {limits.HOOKS_DEAD_MS // 86_400_000} days" in PAGE
