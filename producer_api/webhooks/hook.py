"""What a client asks to hear of, and where: the headers of a request or a batch. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from producer_api.net.addresses import AddressRefused, Policy, parse
from shared.settings import Settings
from shared.wire.outcomes import malformed

URL: Final = "Headrace-Webhook"
EVENTS: Final = "Headrace-Webhook-Events"
INCLUDE: Final = "Headrace-Webhook-Include"

REQUEST_EVENTS: Final = (
    "request.queued",
    "request.running",
    "request.succeeded",
    "request.failed",
    "request.cancelled",
    "request.expired",
)
BATCH_EVENTS: Final = ("batch.completed", "batch.failed", "batch.cancelled")
BEGINNINGS: Final = frozenset(REQUEST_EVENTS[:2])
"""Events that only those hear of who name them; without a filter you hear of ends."""

RESULT: Final = "result"
MOST_EVENTS_CHARACTERS: Final = 1000


class Hook(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where events of one request or batch go; as JSON in its record's field ``hook``.

    Attributes:
        url: in ASCII, as :func:`producer_api.net.addresses.parse` makes it.
        events: those to deliver.
        result: whether the event that a request succeeded carries its result, if that is small.
    """

    url: str
    events: tuple[str, ...]
    result: bool = False

    def encode(self) -> str:
        """Return the JSON that Redis keeps, and that ``webhook_event`` of ``shared/redis/lua/webhooks.lua`` reads."""
        return msgspec.json.encode(self).decode()


class Hooks:
    """Reads the headers of requests and batches.

    Args:
        policy: which addresses may be named.
        is_on: whether something can sign.
    """

    def __init__(self, policy: Policy, *, is_on: bool) -> None:
        self._policy, self._is_on = policy, is_on
        self.read = lru_cache(maxsize=256)(self._read)  # of a client's requests, many name the same

    @classmethod
    def of(cls, settings: Settings) -> Hooks:
        """Return those of the settings."""
        return cls(Policy.of(settings), is_on=bool(settings.webhook_secrets))

    def _read(self, url: str, events: str | None, include: str | None, *, is_batch: bool = False) -> Hook:
        """Read the three headers. Looks no name up: what a name leads to is checked when something is delivered.

        Args:
            events: names of events separated by commas; None or empty for all ends.
            include: ``result`` or None.
            is_batch: whether it is a batch that is asked for.

        Raises:
            RequestError: 400, one of them is wrong, and named; or no secret is set.
        """
        if not self._is_on:
            raise malformed(f"{URL} is refused: the operator has set no HEADRACE_WEBHOOK_SECRETS to sign with.", URL)
        try:
            target = parse(url.strip())
            self._policy.check_literal(target)
        except AddressRefused as refused:
            raise malformed(f"{URL} is refused: {refused}.", URL) from None
        known = BATCH_EVENTS if is_batch else REQUEST_EVENTS
        if include is not None and is_batch:
            raise malformed(f"{INCLUDE} is for requests: the results of a batch are fetched.", INCLUDE)
        if include is not None and include.strip().lower() != RESULT:
            raise malformed(f"{INCLUDE} must be {RESULT!r}, not {include[:40]!r}.", INCLUDE)
        return Hook(target.url, _events(events or "", known), include is not None)


def _events(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if len(text) > MOST_EVENTS_CHARACTERS:
        raise malformed(f"{EVENTS} has at most {MOST_EVENTS_CHARACTERS} characters.", EVENTS)
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for one in wanted:
        if one not in known:
            raise malformed(f"{EVENTS} lists some of {', '.join(known)}, not {one[:40]!r}.", EVENTS)
    return wanted or tuple(one for one in known if one not in BEGINNINGS)
