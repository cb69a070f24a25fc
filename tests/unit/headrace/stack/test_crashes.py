"""What the supervisor remembers of consumers that died."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.stack.child import ChildSpec, Stage
from headrace.stack.crashes import LONGEST_WHY, Crash, Crashes
from headrace.stack.restarts import Backoff

SPEC = ChildSpec("consumer m", ("x",), Stage.CONSUMER, model="m")
OTHER = ChildSpec("consumer n", ("x",), Stage.CONSUMER, model="n")


def test_each_consumer_has_pauses_of_its_own() -> None:
    crashes = Crashes(Backoff, lambda _: None)
    for _ in range(3):
        last = crashes.died(SPEC, 2, "no", 0.0, now_s=100.0)
    assert (last.deaths, last.delay_s, last.retry_at_s) == (3, 2.0, 102.0)
    assert crashes.died(OTHER, 2, "no", 0.0, now_s=100.0).deaths == 1


def test_every_change_is_told_with_all_crashes() -> None:
    told: list[Mapping[str, Crash]] = []
    crashes = Crashes(Backoff, told.append)
    crashes.died(SPEC, 2, "first", 0.0, 0.0)
    crashes.died(OTHER, 139, "", 0.0, 0.0)
    assert crashes.recovered(SPEC)
    assert not crashes.recovered(SPEC)
    assert [sorted(one) for one in told] == [["consumer m"], ["consumer m", "consumer n"], ["consumer n"]]
    assert crashes.recovered_after_s(SPEC) is None
    assert crashes.recovered_after_s(OTHER) == 1.0


def test_what_a_consumer_printed_is_shown_short_and_without_control_characters() -> None:
    why = Crashes(Backoff, lambda _: None).died(SPEC, 1, "\x1b[31mred" + "x" * 1000, 0.0, 0.0).why
    assert why.startswith("?[31mred")
    assert len(why) == LONGEST_WHY
