"""What all connections of a front end share: the accounts of bytes, the accepted names, and whether it is stopping."""

from __future__ import annotations

from dataclasses import dataclass, field

from producer_api.load.answer_budget import AnswerBudget
from producer_api.load.body_budget import BodyBudget
from shared.net.hosts import Hosts

from .cors import Cors

_UNLIMITED = 1 << 60


@dataclass(slots=True)
class Rules:
    """One for each application; ``server.config`` hands it to the protocol.

    Attributes:
        body_budget: bytes that have come and cannot be used yet.
        answer_budget: bytes that wait for clients to read them.
        hosts: the names that this front end has; None for any.
        cors: which pages of other origins may ask; None for none.
        is_draining: the process is to stop: each answer is the last on its connection.
    """

    body_budget: BodyBudget = field(default_factory=lambda: BodyBudget(_UNLIMITED))
    answer_budget: AnswerBudget = field(default_factory=lambda: AnswerBudget(_UNLIMITED, 30.0))
    hosts: Hosts | None = None
    cors: Cors | None = None
    is_draining: bool = False
