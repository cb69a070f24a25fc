"""Where a request ran, as its reply says if the request asked for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

Spans = tuple[tuple[str, float], ...]


class Ran(msgspec.Struct, frozen=True):
    """Where and with whom a request ran.

    Attributes:
        worker: name of the consumer; empty where it has not said.
        batch: number of the batch, counted by the consumer from 1; 0 where it has not said.
        closed: why the batch closed; empty likewise.
        first_token: when a generation had its first token, in microseconds after its start; None for none.
        spans: where all of the time went, by name, in ms. Front ends add them; they are not part of the message.
        note: a sentence on the spans, likewise.
    """

    worker: str = ""
    batch: int = 0
    closed: str = ""
    first_token: int | None = None
    spans: Spans = ()
    note: str = ""


def ran_to(ran: Ran) -> dict[str, Any]:
    """Return what a message has of it."""
    found: dict[str, Any] = {"worker": ran.worker, "batch": ran.batch, "closed": ran.closed}
    return found if ran.first_token is None else {**found, "first_token": ran.first_token}


def ran_from(value: Mapping[str, Any] | None) -> Ran | None:
    """Read the member of a message; None where there is none.

    Raises:
        KeyError, TypeError: it is no such member.
    """
    if value is None:
        return None
    return Ran(value["worker"], value["batch"], value["closed"], value.get("first_token"))
