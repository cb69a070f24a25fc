"""[I/O] Single questions to the service outside the measured time: its card, version and metrics, one inference.

Plain blocking calls on http.client, so that `wait` imports little; the measured path is engine.py.
"""

from __future__ import annotations

import base64
import http.client
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from loadgen.errors import LoadgenError
from loadgen.scenario import API_KEY, JSON, OCTET_STREAM, Payload, Target

_BYTES_PER_ELEMENT: Final = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8"), 1),
    **dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("INT32", "UINT32", "FP32"), 4),
    **dict.fromkeys(("INT64", "UINT64", "FP64"), 8),
}
UNAUTHORIZED: Final = (401, 403)
GENERATE: Final = "application/vnd.headrace.generate"
"""What a model that generates text takes; over HTTP also as the member ``generate`` of JSON."""
_MOST_ZERO_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and body of one answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The parsed body, or None when it is not JSON; NaN and infinities, which JSON has not, become None."""
        try:
            return json.loads(self.body, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return None

    def error_sentence(self) -> str:
        """Say what an answer that is not a success said, in a few words."""
        error = _member(self.json(), "error")
        message = _member(error, "message")
        code = _member(error, "code")
        said = f": {code}: {message}" if message else ""
        return f"status {self.status}{said}"


class Unreachable(LoadgenError):
    """Nothing answers at the address, or not within the time given."""


class NotServed(LoadgenError):
    """The service answers that it does not serve the model now: it loads, or has no worker."""


class UnknownModel(LoadgenError):
    """The service answers, and serves no model of this name. `served`: those that it does serve, as it says."""

    def __init__(self, sentence: str, served: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.served = served


def ask(
    target: Target,
    method: str,
    path: str,
    timeout_s: float,
    body: bytes | None = None,
    content_type: str | None = None,
) -> Reply:
    """Send one request on a connection of its own and return the answer, whatever its status.

    Raises:
        Unreachable: no connection, no answer in time, or not HTTP; the text says which.
    """
    headers = {"Accept": "application/json", "Connection": "close", "Host": target.host_header}
    if content_type is not None:
        headers["Content-Type"] = content_type
    if target.key is not None:
        headers["Authorization"] = f"Bearer {target.key}"
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return Reply(response.status, response.read())
    except TimeoutError:
        raise Unreachable(f"{target.url} did not answer within {timeout_s:.3g} s.") from None
    except http.client.HTTPException as error:
        raise Unreachable(f"{target.url} does not speak HTTP as expected ({type(error).__name__}).") from None
    except OSError as error:
        raise Unreachable(f"Cannot reach {target.url}: {error.strerror or error}.") from None
    finally:
        connection.close()


def read_card(target: Target, model: str, timeout_s: float) -> dict[str, Any] | None:
    """Return the model's card as the service reports it; None when it has no such page or the page is not JSON.

    Raises:
        Unreachable: see `ask`.
        UnknownModel: the service serves models, but not this one.
        NotServed: it knows the model, and cannot show its card yet.
        LoadgenError: it wants another API key than the one it was sent, if any.
    """
    reply = ask(target, "GET", target.model_path(model), timeout_s)
    card = reply.json()
    if reply.status == 200 and isinstance(card, dict):
        return card
    if reply.status in UNAUTHORIZED:
        raise refusal(target, model, reply)
    if reply.status == 404:
        names = _model_names(ask(target, "GET", f"{target.prefix}/v1/models", timeout_s))
        if model in names:  # a server of OpenAI's API, which has a list and no cards
            return None
        served = f"; it serves {', '.join(names)}" if names else ""
        raise UnknownModel(f"{target.url} has no model named {model!r}{served}.", tuple(names))
    if reply.status == 503:
        raise NotServed(f"{model!r} answers with {reply.error_sentence()}")
    return None


def refusal(target: Target, model: str, reply: Reply) -> LoadgenError:
    """Return the error for a request that the service will always refuse."""
    hint = f"; what {API_KEY} holds is sent as the key" if reply.status in UNAUTHORIZED else ""
    said = reply.error_sentence().rstrip(".")
    return LoadgenError(f"{target.url} refuses the request for {model!r} with {said}{hint}.")


def read_json(target: Target, path: str, timeout_s: float) -> dict[str, Any] | None:
    """Return the JSON object at `path`, or None when there is none."""
    try:
        reply = ask(target, "GET", target.prefix + path, timeout_s)
    except Unreachable:
        return None
    value = reply.json()
    return value if reply.status == 200 and isinstance(value, dict) else None


def read_text(target: Target, path: str, timeout_s: float) -> str | None:
    """Return the text at `path`, or None when there is none."""
    try:
        reply = ask(target, "GET", path, timeout_s)
    except Unreachable:
        return None
    return reply.body.decode("utf-8", "replace") if reply.status == 200 else None


def infer(target: Target, model: str, payload: Payload, timeout_s: float) -> Reply:
    """Ask for one real inference."""
    return ask(target, "POST", target.predict_path(model), timeout_s, payload.body, payload.content_type)


def is_answer(reply: Reply) -> bool:
    """Whether this is an inference's result: status 200 and a JSON object with predictions, outputs or a text."""
    value = reply.json()
    members = ("predictions", "outputs", "generated")
    return reply.status == 200 and isinstance(value, dict) and any(value.get(name) for name in members)


def sample_payload(card: Mapping[str, Any]) -> Payload:
    """Return the plainest request that a model accepts by its card.

    Its example, a prompt of one word, raw zeros, else a small grey picture.

    Raises:
        LoadgenError: none can be made.
    """
    example = _example(card.get("example"))
    if example is not None:
        return example
    accepted = card.get("content_types") or (OCTET_STREAM,)
    if GENERATE in accepted:
        return Payload(name="a word", content_type=JSON, body=b'{"generate": {"prompt": "Hello", "max_tokens": 2}}')
    if OCTET_STREAM not in accepted and "image/png" in accepted:
        return Payload(name="grey picture", content_type="image/png", body=_grey_png())
    return zero_payload(card)


def _example(given: Any) -> Payload | None:
    content_type, body = _member(given, "content_type"), _member(given, "body")
    if not isinstance(content_type, str) or not isinstance(body, str):
        return None
    try:
        data = base64.b64decode(body, validate=True) if _member(given, "is_base64") else body.encode()
    except ValueError:
        return None
    return Payload(name="the model's example", content_type=content_type, body=data)


def _grey_png() -> bytes:
    """Encode a grey square as PNG (W3C PNG specification, third edition, section 5)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 32
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)  # 8 bits a pixel, one grey channel
    pixels = zlib.compress((b"\0" + b"\x80" * side) * side)  # each line starts with its filter, none
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zero_payload(card: Mapping[str, Any]) -> Payload:
    """Return one raw tensor of zeros for the first input that the card declares; a dimension of -1 counts as 1.

    Raises:
        LoadgenError: the card declares no input whose size can be known; a --payload is needed then.
    """
    try:
        first = card["inputs"][0]
        width = _BYTES_PER_ELEMENT[first["datatype"]]
        size_bytes = width * prod(1 if int(extent) < 0 else int(extent) for extent in first["shape"])
    except (KeyError, IndexError, TypeError, ValueError):
        raise LoadgenError("The model's card declares no input of a known size; give a --payload.") from None
    if size_bytes > _MOST_ZERO_BYTES:
        raise LoadgenError(f"The model's card declares an input of {size_bytes:,} bytes; give a --payload.")
    return Payload(name="zeros", content_type=OCTET_STREAM, body=bytes(size_bytes))


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _model_names(reply: Reply) -> list[str]:
    value = reply.json()
    models = value if isinstance(value, list) else _member(value, "models") or _member(value, "data")
    if not isinstance(models, list):
        return []
    names = [model if isinstance(model, str) else _member(model, "name") or _member(model, "id") for model in models]
    return [name for name in names if isinstance(name, str)]
