"""The outermost layer of the application: counts time, and gives every error the documented shape."""

from __future__ import annotations

import logging
from time import perf_counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer_api.auth import KeyCheck, is_open
from producer_api.inference.codec import Response
from producer_api.inference.dialects import Dialects, error_codec, missing
from producer_api.inference.errors import internal_error, refused
from producer_api.metrics import OTHER_ROUTE, ApiMetrics
from shared.wire.outcomes import INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND, RequestError

from . import responses
from .body import send_unread
from .cors import Cors

TRACE = "headrace_trace"
"""Member of a scope: the id of the sampled trace that a predict request belongs to."""

_log = logging.getLogger("headrace.http")


class Boundary:
    """Pure ASGI middleware around everything.

    Args:
        app: what it wraps.
        metrics: where durations go.
        measured: path templates with a series of their own; all others share one.
        dialects: the codecs that tell errors to the clients of some paths; all others have the native one's.
        key_check: checks the API key before routing; None accepts every request.
        cors: answers browsers that ask before they send, and marks all answers; None for neither.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: ApiMetrics,
        measured: frozenset[str],
        dialects: Dialects,
        key_check: KeyCheck | None = None,
        cors: Cors | None = None,
    ) -> None:
        self._app, self._metrics, self._measured, self._key_check, self._cors = app, metrics, measured, key_check, cors
        self._dialects = dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if not status and message["type"] == "http.response.start":
                status = message["status"]
                if cors is not None:
                    message["headers"] = [*message["headers"], *cors.headers(origin)]
            await send(message)

        cors, origin = self._cors, None
        if cors is not None:
            origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
            if scope["method"] == "OPTIONS" and origin is not None and _is_preflight(scope):
                await send({"type": "http.response.start", "status": 204, "headers": cors.preflight(origin)})
                await send({"type": "http.response.body", "body": b""})
                return
        try:
            if self._key_check is not None and self._needs_key(scope["path"]):
                scope["api_client"] = self._key_check.check(
                    v for name, v in scope["headers"] if name == b"authorization"
                )
            await self._app(scope, receive, watched)
        except RequestError as error:
            await send_unread(watched, self._refused(scope, error), dict(scope["headers"]))
        except HTTPException as error:
            refusal = self._refused(scope, _documented(error, scope["path"]))
            if error.status_code == METHOD_NOT_ALLOWED.status:
                refusal.headers = [*refusal.headers, (b"allow", _allowed(error).encode())]
            await send_unread(watched, refusal, dict(scope["headers"]))
        except Exception:
            _log.exception("%s %s failed.", scope["method"], scope["path"][:200])
            if status:
                raise  # the response has begun; the server can only close the connection
            await responses.send(watched, self._refused(scope, internal_error()))
        finally:
            if status:
                duration_s, trace = perf_counter() - started_s, scope.get(TRACE)
                self._metrics.observe_request(self._route(scope, status), status, duration_s, trace)

    def _needs_key(self, path: str) -> bool:
        """Say whether a request needs a key. Settings may give any path to inference, such as ``/``."""
        return path in self._dialects or not is_open(path)

    def _refused(self, scope: Scope, error: RequestError) -> Response:
        return refused(error, error_codec(scope["path"], self._dialects))

    def _route(self, scope: Scope, status: int) -> str:
        route = scope.get("route")
        path = getattr(route, "path", OTHER_ROUTE)
        return path if status != METHOD_NOT_ALLOWED.status and path in self._measured else OTHER_ROUTE


def _is_preflight(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _documented(error: HTTPException, path: str) -> RequestError:
    """Give the router's own refusals, 404 and 405, the documented shape."""
    if error.status_code == NOT_FOUND.status:
        return missing(path)
    path = path[:200]
    if error.status_code == METHOD_NOT_ALLOWED.status:
        return RequestError(METHOD_NOT_ALLOWED, f"{path} takes {_allowed(error)}.")
    return RequestError(INTERNAL, "The request cannot be answered.")


def _allowed(error: HTTPException) -> str:
    allowed = dict(error.headers or {}).get("Allow", "")
    return ", ".join(sorted(allowed.replace(" ", "").split(",")))
