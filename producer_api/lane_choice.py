"""Which lane a request goes to: that of its API key, or the one that its client chooses. Pure.

The header is ``Headrace-Lane``. A key may choose the lanes that its entry in the file of keys lists; where no keys are
required, everybody may choose batch lanes, whose requests delay nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from shared.keys import DEFAULT_LANE
from shared.names import is_name
from shared.wire.outcomes import UNKNOWN_LANE, RequestError, malformed

from .auth import Client

LANE = b"headrace-lane"


def lane_of(asked: bytes | None, client: Client | None) -> str:
    """Return the lane of a request.

    Whether a model has it, and, where no keys are required, whether it is a batch lane, is the admission's to check.

    Args:
        asked: value of ``Headrace-Lane``; None where it is missing.
        client: the holder of the API key, None if no key is required.

    Raises:
        RequestError: ``MALFORMED``: it is no name; ``UNKNOWN_LANE``: the key may not choose it.
    """
    own = own_lane(client)
    if asked is None:
        return own
    lane = asked.decode("latin-1").strip()
    if not is_name(lane):
        raise malformed("Headrace-Lane is the name of a lane: 1 to 64 letters, digits, '_' or '-'.", "Headrace-Lane")
    if lane == own:
        return own
    if client is not None and lane not in client.key.lanes:
        message = f"Your key has no lane {lane!r}: it may choose those that the file of keys lists as its lanes."
        raise RequestError(UNKNOWN_LANE, message, field="Headrace-Lane")
    return lane


def own_lane(client: Client | None) -> str:
    """Return the lane of a client that chooses none."""
    return DEFAULT_LANE if client is None else client.key.lane


class LaneChoice(NamedTuple):
    """What says where something of a client is, or is to go.

    Attributes:
        client: the holder of the API key, None if no key is required.
        lane: the client's own, or the one that it has chosen.
        is_chosen: it has said which.
    """

    client: Client | None
    lane: str
    is_chosen: bool = False

    def lanes(self, batch_lanes: Iterable[str]) -> tuple[str, ...]:
        """Return the lanes in which something of the client may be, its own first; the chosen one alone.

        Args:
            batch_lanes: those of the model.
        """
        if self.is_chosen:
            return (self.lane,)
        others = sorted(batch_lanes) if self.client is None else self.client.key.lanes
        return tuple(dict.fromkeys((self.lane, *others)))


def choice_of(asked: bytes | None, client: Client | None) -> LaneChoice:
    """Return what a request says of its lane.

    Raises:
        RequestError: see :func:`lane_of`.
    """
    return LaneChoice(client, lane_of(asked, client), asked is not None)
