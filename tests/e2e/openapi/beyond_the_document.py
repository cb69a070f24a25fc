"""What schemathesis has to know beyond the OpenAPI document, which has no words for it.

How bodies in msgpack are written and read, and what excludes what: options of a JSON body are in it and not in the
query, a request has an id or an idempotency key, and a header that says where the JSON of a body ends belongs to bodies
with more behind it. Which model answers at a path whose body names one. This front end delivers no webhooks.
"""

from __future__ import annotations

import json
import os
from typing import Any

import msgpack
import schemathesis
from schemathesis.core.parameters import ParameterLocation

MODELS: dict[str, str] = json.loads(os.environ.get("MODELS_BY_PATH", "{}"))
"""Which model to ask at paths whose body names one."""

KINDS = ("application/msgpack", "application/x-msgpack")


@schemathesis.serializer(*KINDS)
def serialize(context: Any, value: Any) -> bytes:
    """Encode the body of a request; what msgpack has no form for, such as a number of 70 bits, goes as its text."""
    encoded: bytes = msgpack.packb(value, default=str) if _fits(value) else msgpack.packb(str(value))
    return encoded


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def serialize_lines(context: Any, value: Any) -> bytes:
    """Encode the body of a request: lines as they are, and what the document forbids as JSON."""
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.deserializer(*KINDS)
def deserialize(context: Any, response: Any) -> Any:
    """Decode the body of an answer."""
    return msgpack.unpackb(response.content)


def _fits(value: Any) -> bool:
    try:
        msgpack.packb(value, default=str)
    except (OverflowError, ValueError):
        return False
    return True


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Take from a request what excludes another part of it, unless that is the part which the document forbids."""
    has_options_inside = case.media_type in ("application/json", *KINDS)
    if _is_as_documented(case, ParameterLocation.QUERY) and has_options_inside:
        for name in ("top_k", "timeout_ms", "id", "truncate"):
            (case.query or {}).pop(name, None)
    if _is_as_documented(case, ParameterLocation.HEADER):
        if "id" in (case.query or {}) or has_options_inside:
            (case.headers or {}).pop("Idempotency-Key", None)
        # Without secrets nothing is delivered: the hosts that are made up here may exist.
        for name in ("Headrace-Webhook", "Headrace-Webhook-Events", "Headrace-Webhook-Include"):
            (case.headers or {}).pop(name, None)
        if case.media_type == "application/json":
            (case.headers or {}).pop("Inference-Header-Content-Length", None)
    if _is_as_documented(case, ParameterLocation.BODY) and isinstance(case.body, dict) and case.path in MODELS:
        case.body["model"] = MODELS[case.path]


def _is_as_documented(case: Any, location: ParameterLocation) -> bool:
    return case.meta is None or not case.meta.is_negative_at(location)
