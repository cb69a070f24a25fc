"""What both clients of the REST API say and understand (docs/rest.md, docs/later.md). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from shared.wire.messages import Scalar

from .answers import Answer, Body
from .attempts import Attempts, Retries
from .bodies import JSON, Payload, Sendable, checked_id, checked_model, payload, with_parameters
from .errors import HeadraceError, too_late
from .exchange import MSGPACK, Call, Flow, Pause, decoded, exchange, wait_s
from .later import Later
from .models import ModelList, ModelSummary

EVENTS = "text/event-stream"
POLL_S = 20
SHORT_POLL_S = 0.25


def checked_url(url: str) -> str:
    """Return a service's address without a slash at its end.

    Raises:
        ValueError: it is none, or has more than host, port and a path.
    """
    parts = urlsplit(url)
    try:
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment or parts.username:
        raise ValueError(f"The address must read http://host:port or https://host:port, not {url[:200]!r}.")
    return url.rstrip("/")


class Rest:
    """Makes flows of the API's requests.

    Args:
        api_key: sent with each; None where the service requires none.
    """

    def __init__(self, api_key: str | None, retries: Retries) -> None:
        if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable()):
            raise ValueError("api_key must consist of printable ASCII characters.")
        self._headers = {"Accept": MSGPACK} | ({} if api_key is None else {"Authorization": f"Bearer {api_key}"})
        self._retries = retries

    def predict(
        self,
        now_s: float,
        model: str,
        body: Sendable | None,
        *,
        inputs: Mapping[str, Any] | None,
        content_type: str | None,
        timeout_s: float,
        top_k: int | None,
        truncate: bool,
        request_id: str | None,
        explain: bool,
    ) -> Flow[Answer]:
        """Ask a model."""
        sent, name = payload(body, inputs, content_type, top_k, truncate), checked_id(request_id)
        path = f"/v1/models/{checked_model(model)}/predict"

        def call(left_s: float) -> Call:
            options: dict[str, Scalar] = {"id": name, "timeout_ms": _ms(wait_s(left_s))}
            return self._call(path, sent, options, left_s, {"Headrace-Explain": "1"} if explain else {})

        received = yield from exchange(call, Attempts(self._retries, now_s, timeout_s), now_s, name)
        return decoded(received, Body).answer()

    def later(
        self,
        now_s: float,
        model: str,
        body: Sendable | None,
        *,
        inputs: Mapping[str, Any] | None,
        content_type: str | None,
        timeout_s: float,
        top_k: int | None,
        truncate: bool,
        request_id: str | None,
        begin_within_s: float | None,
        keep_s: float | None,
        webhook: str | None,
    ) -> Flow[Later]:
        """Hand a request in."""
        sent, name = payload(body, inputs, content_type, top_k, truncate), checked_id(request_id)
        path = f"/v1/models/{checked_model(model)}/predict"
        options: dict[str, Scalar] = {"id": name}
        if begin_within_s is not None:
            options["timeout_ms"] = _ms(begin_within_s)
        headers = {"Prefer": "respond-async"}
        if keep_s is not None:
            headers["Headrace-Keep"] = str(max(1, math.ceil(keep_s)))
        if webhook is not None:
            headers["Headrace-Webhook"] = webhook

        def call(left_s: float) -> Call:
            return self._call(path, sent, options, left_s, headers)

        received = yield from exchange(call, Attempts(self._retries, now_s, timeout_s), now_s, name)
        return decoded(received, Later)

    def generation(
        self,
        model: str,
        prompt: str | None,
        messages: Sequence[Mapping[str, Any]] | None,
        options: Mapping[str, Any],
        timeout_s: float,
    ) -> Call:
        """Make the request of a text that comes in parts; it has no id, so closing the connection cancels it."""
        if (prompt is None) == (messages is None):
            raise ValueError("Give either a prompt or messages.")
        asked = {"prompt": prompt} if messages is None else {"messages": messages}
        document = {"generate": {**options, **asked}, "parameters": {"timeout_ms": _ms(wait_s(timeout_s))}}
        return Call(
            method="POST",
            path=f"/v1/models/{checked_model(model)}/predict",
            timeout_s=timeout_s,
            headers={**self._headers, "Accept": EVENTS, "Content-Type": JSON},
            body=msgspec.json.encode(document),
        )

    def attempts(self, now_s: float, timeout_s: float) -> Attempts:
        """Begin to count the attempts of a request."""
        return Attempts(self._retries, now_s, timeout_s)

    def result(self, now_s: float, model: str, request_id: str, timeout_s: float) -> Flow[Answer]:
        """Wait for the answer to a request that was handed in."""
        path = self._request_path(model, request_id)
        attempts = Attempts(self._retries, now_s, timeout_s)

        def call(left_s: float) -> Call:
            poll_s = min(POLL_S, int(wait_s(left_s)))
            return self._get(f"{path}?wait={poll_s}" if poll_s else path, left_s)

        while True:
            received = yield from exchange(call, attempts, now_s, request_id)
            if received.status != 202:
                return decoded(received, Body).answer()
            now_s, _ = yield Pause(min(SHORT_POLL_S, attempts.left_s(now_s)))
            if not attempts.left_s(now_s):
                raise too_late(request_id, timeout_s)

    def cancel(self, now_s: float, model: str, request_id: str, timeout_s: float) -> Flow[bool]:
        """Take a request back."""
        path = self._request_path(model, request_id)

        def call(left_s: float) -> Call:
            return Call(method="DELETE", path=path, timeout_s=left_s, headers=self._headers)

        try:
            yield from exchange(call, Attempts(self._retries, now_s, timeout_s), now_s, request_id)
        except HeadraceError as error:
            if error.code == "already_answered":
                return False
            raise
        return True

    def models(self, now_s: float, timeout_s: float) -> Flow[tuple[ModelSummary, ...]]:
        """List the models."""
        attempts = Attempts(self._retries, now_s, timeout_s)
        received = yield from exchange(lambda left_s: self._get("/v1/models", left_s), attempts, now_s)
        return decoded(received, ModelList).models

    def _get(self, path: str, left_s: float) -> Call:
        return Call(method="GET", path=path, timeout_s=left_s, headers=self._headers)

    def _request_path(self, model: str, request_id: str) -> str:
        return f"/v1/models/{checked_model(model)}/requests/{checked_id(request_id)}"

    def _call(
        self, path: str, sent: Payload, options: Mapping[str, Scalar], left_s: float, headers: Mapping[str, str]
    ) -> Call:
        params = {**sent.params, **options}
        if sent.is_document:
            kind, body = sent.content_type or "", with_parameters(sent, params)
        elif sent.inputs is None:
            query = urlencode({name: _text(value) for name, value in params.items()})
            kind, path, body = sent.content_type or "", f"{path}?{query}", sent.body or b""
        else:
            kind = MSGPACK
            body = msgspec.msgpack.encode({"inputs": sent.inputs, "parameters": params})
        told = {**self._headers, "Content-Type": kind, **headers}
        return Call(method="POST", path=path, timeout_s=left_s, headers=told, body=body)


def _ms(duration_s: float) -> int:
    return max(1, int(duration_s * 1000))


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
