"""Responses to requests that are answered later: ``202 Accepted``, and the result when it is fetched. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from producer_api.inference.codec import Codec, Decoded, Head, Headers, Response
from producer_api.inference.encoding import json_encoder, size_of
from producer_api.inference.errors import NOT_KEPT, from_fault
from producer_api.inference.native import NATIVE
from producer_api.inference.negotiation import JSON
from producer_api.later.interface import NewJob
from producer_api.later.jobs import Asked, Job, State, encode_asked
from producer_api.parsing.schemas import RequestState
from producer_api.parsing.steps import StepRunner
from producer_api.queue.interface import ModelState
from shared.wire.messages import Reply
from shared.wire.outcomes import (
    BY_CODE,
    CANCELLED,
    EXPIRED,
    INTERNAL,
    OK,
    UNKNOWN_REQUEST,
    RequestError,
)

MOST_RETRY_AFTER_S = 60


def new_job(head: Head, decoded: Decoded, media_type: str, keep_ms: int, hook: str) -> NewJob:
    """Make the later request of a request that asked to be answered later.

    Args:
        media_type: of the answer.
        keep_ms: how long the result is kept where the request does not say.
        hook: whom to notify, as JSON; empty for nobody.
    """
    assert head.later is not None
    request = msgspec.structs.replace(decoded.request, keep_ms=head.later.keep_ms or keep_ms)
    asked = encode_asked(head.route, media_type, decoded.asked)
    return NewJob(request, decoded.id_is_generated, asked, decoded.fingerprint, hook)


def location(model: str, request_id: str) -> str:
    """Return the path at which a later request is found."""
    return f"/v1/models/{model}/requests/{request_id}"


def accepted(state: ModelState, request_id: str, stands: State, position: int, applied: bytes = b"") -> Response:
    """Return the response that says where the answer will be.

    Args:
        position: place among the lane's open later requests; 0 where that is not known.
        applied: value of ``Preference-Applied``; empty for none.
    """
    body = RequestState(request_id, state.name, stands, position or UNSET)
    headers: Headers = [
        NOT_KEPT,
        (b"location", location(state.name, request_id).encode()),
        (b"retry-after", b"%d" % retry_after_s(state, position)),
    ]
    if applied:
        headers.append((b"preference-applied", applied))
    return Response(202, JSON, json_encoder.encode(body), headers, request_id)


def retry_after_s(state: ModelState, position: int) -> int:
    """Return after how many seconds to look again: when it probably is its turn, from 1 to 60."""
    if state.service is None or not position:
        return 1
    return min(MOST_RETRY_AFTER_S, max(1, math.ceil(position / state.service.rate)))


def codec_of(job: Job, dialects: Mapping[str, Codec]) -> Codec:
    """Return the codec of the dialect that a later request came in."""
    return NATIVE if job.asked is None else dialects.get(job.asked.route, NATIVE)


def asked_again(codec: Codec, asked: Asked | None) -> Any:
    """Return what the codec wants to know again, as it put it into ``Decoded.asked``."""
    if asked is None or codec.asked_type is None:
        return None
    return msgspec.msgpack.decode(asked.asked, type=codec.asked_type)


async def response_to(
    reply: Reply, request_id: str, codec: Codec, media_type: str, asked: Any, step_runner: StepRunner
) -> Response:
    """Return the response that a stored reply comes to.

    Args:
        asked: what the codec wants to know again.

    Raises:
        RequestError: the request was refused.
    """
    if reply.fault is not None:
        raise from_fault(reply.fault, request_id)
    timing = reply.timing
    took_s = (timing.queue + timing.wait + timing.run) / 1e6
    made = codec.encode(reply, media_type, took_s, asked, is_short=False)
    if not isinstance(made, Response):
        made = await step_runner.run(made, size_of(reply))
    made.request_id, made.headers = request_id, [*made.headers, NOT_KEPT]
    return made


def ended_without_reply(job: Job) -> RequestError:
    """Make the error of a later request that has ended, and of which no reply is stored."""
    outcome = BY_CODE.get(job.code, INTERNAL)
    if outcome is OK:
        return RequestError(UNKNOWN_REQUEST, "The result is no longer stored.", request_id=job.id)
    if outcome is EXPIRED:
        message = "The deadline passed before the request could run."
    elif outcome is CANCELLED:
        message = "The request was cancelled."
    else:
        message = f"The request ended as {job.code}."
    return RequestError(outcome, message, request_id=job.id)
