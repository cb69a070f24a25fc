"""What all connections of a front end share: the accounts of bytes, the accepted names, and whether it is stopping."""

from __future__ import annotations

from dataclasses import dataclass, field

from producer_api.load.answer_budget import Departures
from producer_api.load.body_budget import Arrivals
from shared.net.hosts import Hosts

from .cors import Cors

_UNLIMITED = 1 << 60


@dataclass(slots=True)
class Rules:
    """One for each application; ``server.config`` hands it to the protocol.

    Attributes:
        arrivals: bytes that have come and cannot be used yet.
        departures: bytes that wait for clients to read them.
        hosts: the names that this front end has; None for any.
        cors: which pages of other origins may ask; None for none.
        is_draining: the process is to stop: each answer is the last on its connection.
    """

    arrivals: Arrivals = field(default_factory=lambda: Arrivals(_UNLIMITED))
    departures: Departures = field(default_factory=lambda: Departures(_UNLIMITED, 30.0))
    hosts: Hosts | None = None
    cors: Cors | None = None
    is_draining: bool = False
