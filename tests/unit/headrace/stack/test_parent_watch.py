from __future__ import annotations

from headrace.stack.parent_watch import remaining


def test_only_groups_that_did_not_end_remain_in_the_order_of_their_start() -> None:
    assert remaining(["+10\n", "+11\n", "-10\n", "+12\n"]) == [11, 12]


def test_a_group_that_ended_and_came_again_counts() -> None:
    assert remaining(["+10\n", "-10\n", "+10\n"]) == [10]


def test_nothing_started_nothing_remains() -> None:
    assert remaining([]) == []
