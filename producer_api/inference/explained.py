"""Where the time of a request went, told in its own answer: in ``timing``, and in the header ``Server-Timing``. Pure.

https://www.w3.org/TR/server-timing/
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from producer_api.parsing.schemas import TimingOut
from producer_api.request_log.story import Parts, Span, consumer_parts, whole
from shared.wire.messages import Reply
from shared.wire.outcomes import malformed
from shared.wire.ran import Ran

HEADER = b"headrace-explain"

_WISHES = {b"1": True, b"true": True, b"0": False, b"false": False}


def wish_of(value: bytes | None) -> bool:
    """Say whether the header asks for an explanation.

    Args:
        value: of ``Headrace-Explain``; None where it is missing.

    Raises:
        RequestError: ``MALFORMED``.
    """
    if value is None:
        return False
    found = _WISHES.get(value.strip().lower())
    if found is None:
        raise malformed("Headrace-Explain is 1 or 0.", "Headrace-Explain")
    return found


def with_spans(reply: Reply, admission_s: float, total_s: float) -> Reply:
    """Return a reply that knows where all of the time went until it came.

    Args:
        admission_s: from the head of the request to the queue.
        total_s: from the head to the reply.
    """
    parts = [("admission", admission_s), *_parts(reply)]
    spans, note = whole(parts, 0.0, total_s)
    ran = msgspec.structs.replace(reply.ran or Ran(), spans=tuple((span.name, span.ms) for span in spans), note=note)
    return msgspec.structs.replace(reply, ran=ran)


def _parts(reply: Reply) -> Parts:
    timing = reply.timing
    queue_s, wait_s, decode_s, run_s = (one / 1e6 for one in (timing.queue, timing.wait, timing.decode, timing.run))
    return consumer_parts(queue_s, wait_s, decode_s, run_s, None) if timing.batch else []


def timing_of(reply: Reply, ran: Ran, plain: TimingOut) -> TimingOut:
    """Return the ``timing`` of an answer that explains itself."""
    spans = [Span(name, ms) for name, ms in ran.spans]
    if not spans:  # fetched later: nobody measured the rest
        spans = [Span(name, round(seconds * 1000, 3)) for name, seconds in _parts(reply)]
    return msgspec.structs.replace(
        plain,
        worker=ran.worker or UNSET,
        batch=f"{ran.worker}-{ran.batch}" if ran.batch else UNSET,
        closed=ran.closed or UNSET,
        attempt=reply.attempt,
        spans=spans,
        first_token_ms=UNSET if ran.first_token is None else ran.first_token / 1000,
        note=ran.note or UNSET,
    )


def server_timing(reply: Reply) -> bytes:
    """Return the value of the header ``Server-Timing``: the spans, then what else is known as descriptions."""
    ran = reply.ran or Ran()
    parts = [f"{name};dur={ms:.3f}" for name, ms in ran.spans]
    parts.append(f"total;dur={sum(ms for _, ms in ran.spans):.3f}")
    described = {"worker": ran.worker, "closed": ran.closed}
    if ran.batch:
        described["batch"] = f"{ran.worker}-{ran.batch}, {reply.timing.batch} rows"
    described["attempt"] = str(reply.attempt)
    parts += [f'{name};desc="{_quoted(text)}"' for name, text in described.items() if text]
    return ", ".join(parts).encode("latin-1")


def _quoted(text: str) -> str:
    return "".join(one for one in text[:200] if " " <= one <= "~" and one not in '"\\')
