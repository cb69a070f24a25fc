"""What a receiver gets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from .hook import Hook


class Event(msgspec.Struct, frozen=True):
    """An event that is to be delivered, as ``shared/redis/lua/webhooks.lua`` keeps it.

    Attributes:
        id: of the webhook, the same for each attempt.
        type: one of ``hook.REQUEST_EVENTS`` and ``hook.BATCH_EVENTS``.
        at_ms: POSIX time of the event on Redis's clock.
        since_ms: when it began to wait for delivery: then, or when an operator had it delivered again.
        name: id of the request or batch.
        hook: the :class:`~producer_api.webhooks.hook.Hook` in JSON.
        attempts: made so far.
        error: why the last one failed.
        detail: more about the event, such as the ``code`` of a failure.
    """

    id: str
    type: str
    at_ms: int
    since_ms: int
    name: str
    hook: str
    attempts: int = 0
    error: str = ""
    detail: Mapping[str, Any] = {}

    @property
    def is_batch(self) -> bool:
        """Whether it is about a batch."""
        return self.type.startswith("batch.")

    @property
    def subject(self) -> str:
        """What it is about, as in Redis."""
        return f"{self.type.partition('.')[0]}:{self.name}"


_events = msgspec.json.Decoder(Event)
_hooks = msgspec.json.Decoder(Hook)


def read_event(text: bytes) -> tuple[Event, Hook]:
    """Read an event and its hook.

    Raises:
        msgspec.MsgspecError: it is not one.
    """
    event = _events.decode(text)
    return event, _hooks.decode(event.hook)


class _Data(msgspec.Struct):
    id: str
    model: str
    status: str
    url: str
    error: Mapping[str, Any] | UnsetType = UNSET
    counts: Mapping[str, Any] | UnsetType = UNSET
    result: Any = UNSET


class _Body(msgspec.Struct):
    type: str
    timestamp: str
    data: _Data


def body(event: Event, model: str, base_url: str, result: bytes | None = None) -> bytes:
    """Return the JSON that is sent.

    Args:
        base_url: put before the path of the result; empty where the front ends do not know under which name their
            clients reach them.
        result: JSON of the result, if it is to be sent.
    """
    kind = "batches" if event.is_batch else "requests"
    code, rest = event.detail.get("code"), {name: value for name, value in event.detail.items() if name != "code"}
    data = _Data(
        id=event.name,
        model=model,
        status=event.type.partition(".")[2],
        url=f"{base_url}/v1/models/{model}/{kind}/{event.name}",
        error=UNSET if code in (None, "ok") else {"code": code},
        counts=rest or UNSET,
    )
    if result is not None:
        data.result = msgspec.Raw(result)
    return msgspec.json.encode(_Body(event.type, _time(event.at_ms), data))


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wants_result(event: Event, hook: Hook) -> bool:
    """Say whether the event is to carry the result."""
    return hook.result and event.type == "request.succeeded"
