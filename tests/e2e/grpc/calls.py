"""Calls without a client library in between: bytes in, bytes out, and whatever status comes."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

SERVICE = "/inference.GRPCInferenceService/"
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def channel(target: str, *options: tuple[str, Any]) -> Any:
    """Open a connection of its own."""
    return grpc.insecure_channel(target, options=[*UNLIMITED, ("grpc.use_local_subchannel_pool", 1), *options])


def status(target: str, message: bytes, method: str = "ModelInfer", **more: Any) -> tuple[str, str]:
    """Send one message; returns the code of the status and its text."""
    with channel(target) as own:
        path = method if method.startswith("/") else SERVICE + method
        try:
            own.unary_unary(path)(message, timeout=20, **more)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def request(model: str, datatype: str = "UINT8", shape: tuple[int, ...] = (1, 3), raw: bytes | None = b"abc") -> Any:
    """Return a request with one input, ``input``."""
    made = ModelInferRequest(model_name=model)
    made.inputs.add(name="input", datatype=datatype, shape=shape)
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def answer(message: bytes) -> Any:
    """Read an answer."""
    return ModelInferResponse.FromString(message)
