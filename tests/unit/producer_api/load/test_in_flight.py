"""The places of a front end."""

from __future__ import annotations

import pytest

from producer_api.load.in_flight import InFlight
from shared.wire.outcomes import OVERLOADED, RequestError


def test_a_full_front_end_refuses_with_the_number_and_takes_again_what_leaves_room() -> None:
    places = InFlight(10)
    for _ in range(10):
        places.enter()
    with pytest.raises(RequestError, match="already has 10 requests") as caught:
        places.enter()
    assert (caught.value.outcome, places.count) == (OVERLOADED, 10)
    places.leave()
    places.enter()
    assert places.count == 10
