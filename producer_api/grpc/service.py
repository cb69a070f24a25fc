"""``GRPCInferenceService``: which method does what, who may call it, and what becomes of its calls.

Calls are checked here before anything of them is read. Messages are passed on as bytes; the codec reads them.
"""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import Any, Final

import grpc

from producer_api.auth import Client, KeyCheck
from producer_api.inference.context import AppContext
from producer_api.inference.errors import internal_error
from producer_api.metrics import OTHER_ROUTE
from shared.wire.outcomes import OK, OVERLOADED, UNSUPPORTED, Outcome, RequestError

from .calls import Headers, Inferences, is_ok, text_of, trailing
from .information import Information
from .schema import PACKAGE, SERVICE
from .status import code_of
from .streams import stream
from .unread import UnreadAnswers

Call = Any
"""A ``grpc.aio.ServicerContext``; grpcio has no types."""

log = logging.getLogger("headrace.grpc")

PREFIX: Final = f"/{PACKAGE}.{SERVICE}/"
OPEN: Final = frozenset({"ServerLive", "ServerReady"})
"""Methods that need no key: probes cannot send one, and learn only yes or no."""

NOT_HERE: Final = {
    "RepositoryModelLoad": "Models are loaded by consumers: `python -m consumer --model NAME` starts one.",
    "RepositoryModelUnload": "Models are served by consumers: end theirs.",
    "SystemSharedMemoryStatus": "There is no shared memory with clients: send the tensors in the message.",
    "SystemSharedMemoryRegister": "There is no shared memory with clients: send the tensors in the message.",
    "SystemSharedMemoryUnregister": "There is no shared memory with clients: send the tensors in the message.",
    "CudaSharedMemoryStatus": "There is no shared memory with clients: send the tensors in the message.",
    "CudaSharedMemoryRegister": "There is no shared memory with clients: send the tensors in the message.",
    "CudaSharedMemoryUnregister": "There is no shared memory with clients: send the tensors in the message.",
    "TraceSetting": "Tracing is set with HEADRACE_TRACING, and asked for with the metadata traceparent.",
    "LogSettings": "Logs are set with HEADRACE_LOG_LEVEL.",
}
"""Methods of the protocol that are not implemented, with what to do instead."""

_NOTHING: Final[Headers] = {}

_TAKEN: Final = ("traceparent", "idempotency-key", "headrace-lane")
"""Metadata that mean the same as the headers of REST."""


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """All methods. A call is checked before any of its messages is read.

    Args:
        information: answers the methods that ask nothing of a model.
        unread: the account of answers that clients have not read.
        key_check: checks the API key; None accepts every call.
    """

    def __init__(
        self,
        context: AppContext,
        inferences: Inferences,
        information: Information,
        unread: UnreadAnswers,
        key_check: KeyCheck | None,
    ) -> None:
        self._context, self._inferences, self._unread, self._key_check = context, inferences, unread, key_check
        self._information = information.methods()
        self._streams = 0
        self._plain_infer = self._infer_handler(_NOTHING, None)

    def service(self, details: Any) -> Any:
        """Return what handles a call, from its method and metadata."""
        method = details.method
        name = method[len(PREFIX) :] if method.startswith(PREFIX) else ""
        headers, credentials = _read(details.invocation_metadata)
        client: Client | None = None
        if self._key_check is not None and name not in OPEN:
            try:
                client = self._key_check.check(credentials)
            except RequestError as error:
                return self._refusal(error.outcome, error.message)
        if name == "ModelInfer":
            return self._infer_handler(headers, client) if headers or client is not None else self._plain_infer
        if name == "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(partial(self._stream, headers, client))
        if name in self._information:
            return grpc.unary_unary_rpc_method_handler(partial(self._inform, name))
        return self._refusal(UNSUPPORTED, NOT_HERE.get(name) or f"There is no method {method[:100]!r} here.")

    def _infer_handler(self, headers: Headers, client: Client | None) -> Any:
        return grpc.unary_unary_rpc_method_handler(partial(self._infer, headers, client))

    def _refusal(self, outcome: Outcome, text: str) -> Any:
        """Return a handler that ends a call of any kind, and reads nothing of it."""
        return grpc.stream_stream_rpc_method_handler(partial(self._refuse, outcome, text))

    async def _refuse(self, outcome: Outcome, text: str, messages: object, call: Call) -> None:
        _end(call, outcome, text)
        self._context.metrics.observe_request(OTHER_ROUTE, outcome.status, 0.0)

    async def _infer(self, headers: Headers, client: Client | None, message: bytes, call: Call) -> bytes:
        ended = await self._inferences.run(message, headers, client, call.time_remaining())
        call.set_trailing_metadata(trailing(ended))
        if is_ok(ended):
            self._unread.begin(call, len(ended.response.body))
            call.add_done_callback(self._unread.end)
            return ended.response.body
        _end(call, ended.exchange.outcome, text_of(ended))
        return b""

    async def _stream(self, headers: Headers, client: Client | None, messages: object, call: Call) -> None:
        if self._streams >= self._context.in_flight.limit:
            _end(call, OVERLOADED, f"This front end already has {self._streams} streams.")
            return
        self._streams += 1
        try:
            await stream(
                lambda message: self._inferences.run(message, headers, client, call.time_remaining()),
                call,
                self._unread,
            )
        finally:
            self._streams -= 1

    async def _inform(self, name: str, message: bytes, call: Call) -> bytes:
        started_s, outcome = perf_counter(), OK
        try:
            return self._information[name](message)
        except RequestError as error:
            outcome = error.outcome
            _end(call, outcome, error.message)
        except Exception:
            log.exception("%s failed.", name)
            fault = internal_error()
            outcome = fault.outcome
            _end(call, outcome, fault.message)
        finally:
            self._context.metrics.observe_request(PREFIX + name, outcome.status, perf_counter() - started_s)
        return b""


def _end(call: Call, outcome: Outcome, text: str) -> None:
    call.set_code(getattr(grpc.StatusCode, code_of(outcome)))
    call.set_details(text)


def _read(metadata: Any) -> tuple[Headers, list[bytes]]:
    """Return the metadata that mean something here, and the values of ``authorization``."""
    headers, credentials, doubled = {}, [], False
    for name, value in metadata:
        if name in _TAKEN or name == "authorization":
            text = value if isinstance(value, bytes) else value.encode()
            if name == "authorization":
                credentials.append(text)
            else:
                doubled = doubled or (name == "traceparent" and b"traceparent" in headers)
                headers[name.encode()] = text
    if doubled:  # two are none: Trace Context, section 3.2.1
        del headers[b"traceparent"]
    return headers, credentials
