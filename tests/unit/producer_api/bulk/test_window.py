"""How much of a batch is in its lane."""

from __future__ import annotations

from producer_api.bulk.window import (
    AHEAD_S,
    BACK_OFF_S,
    LANE_SHARE,
    MOST_BYTES,
    UNKNOWN_SERVICE,
    WAVES,
    Window,
    lane_share,
    token_share,
)
from producer_api.load.wait_estimate import Service
from shared.state.lanes import LaneBytes

SLOW = Service(wave=16, batch_s=0.5)


def test_consumers_have_some_batches_before_them() -> None:
    assert Window().size(SLOW, 2048) == WAVES * 16
    assert Window().size(None, 2048) == UNKNOWN_SERVICE


def test_others_keep_their_half_of_the_lane() -> None:
    assert Window().size(Service(1000, 0.1), 200) == 200 * LANE_SHARE == lane_share(200)
    assert Window().size(SLOW, 1) == 1


def test_a_quick_model_has_more() -> None:
    window = Window()
    for step in range(50):
        window.answered(1000, step * AHEAD_S)
    assert window.rate > 5000
    assert window.size(SLOW, 100_000) > WAVES * 16


def test_a_full_lane_closes_it_for_a_moment_and_makes_it_smaller() -> None:
    window = Window()
    before = window.size(SLOW, 2048)
    window.full(10.0)
    assert not window.is_open(10.0 + BACK_OFF_S / 2)
    assert window.is_open(10.0 + BACK_OFF_S)
    assert window.size(SLOW, 2048) == before // 2
    for _ in range(10):
        window.full(11.0)
    assert window.size(SLOW, 2048) >= 1
    for step in range(100):
        window.answered(512, 12.0 + step)
    assert window.size(SLOW, 2048) >= before


def test_a_batch_leaves_half_of_a_lanes_prompt_tokens_to_others() -> None:
    assert token_share(None) == token_share(LaneBytes(kilotoken_bytes=5000)) == MOST_BYTES
    assert token_share(LaneBytes(most_tokens=1000, kilotoken_bytes=5000)) == 2500
    assert token_share(LaneBytes(most_tokens=1, kilotoken_bytes=1000)) == 1
