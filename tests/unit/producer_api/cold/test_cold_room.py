"""How many requests may wait for consumers, and for how long that is of use."""

from __future__ import annotations

from producer_api.load.cold_room import HEED_S, LONG_S, REFUSE_S, ColdRoom


def test_places_are_bounded_over_all_models_and_come_back() -> None:
    room = ColdRoom(2, 100)
    first, second = room.enter("cat"), room.enter("dog")
    assert first is not None
    assert second is not None
    assert room.enter("cat") is None
    first.leave()
    first.leave()
    assert room.counts() == {"cat": 0, "dog": 1}
    assert room.enter("dog") is not None


def test_bodies_are_bounded_except_the_first() -> None:
    room = ColdRoom(10, 100)
    large = room.enter("cat", 1000)
    assert large is not None
    assert room.enter("cat", 1) is None
    assert room.enter("cat") is not None  # what waits in the queue takes nothing here
    large.leave()
    assert room.held_bytes == 0
    assert room.enter("cat", 60) is not None
    assert room.enter("cat", 41) is None
    assert room.enter("cat", 40) is not None
    assert room.held_bytes == 100


def test_once_a_model_is_served_nothing_waits_for_a_consumer_of_it() -> None:
    room = ColdRoom(1, 100)
    place = room.enter("cat", 7)
    room.served("cat")
    assert room.counts() == {"cat": 0}
    assert room.enter("dog") is not None
    assert place is not None
    place.leave()
    assert room.held_bytes == 0


def test_where_nobody_heeds_what_waits_requests_are_refused_for_a_while() -> None:
    room = ColdRoom(1, 1)
    assert room.refused_for_s("cat", 60, 0.0) == 0
    assert room.refused_for_s("cat", 60, HEED_S - 1) == 0
    assert room.refused_for_s("cat", 60, HEED_S) == REFUSE_S
    assert room.refused_for_s("dog", 60, HEED_S) == 0
    assert room.refused_for_s("cat", LONG_S, HEED_S) == 0  # somebody may come within so long a time
    assert room.refused_for_s("cat", 60, HEED_S + REFUSE_S - 0.5) == 1
    # Then it is tried again, as long as the first time.
    assert room.refused_for_s("cat", 60, HEED_S + REFUSE_S) == 0
    assert room.refused_for_s("cat", 60, 2 * HEED_S + REFUSE_S - 1) == 0
    assert room.refused_for_s("cat", 60, 2 * HEED_S + REFUSE_S) == REFUSE_S
    room.heeded("cat")
    assert room.refused_for_s("cat", 60, 2 * HEED_S + REFUSE_S) == 0
