"""What chat and completions have in common: how text is generated, and its limits. Pure.

Members that change the text and cannot be honoured here are refused by name; those that change nothing are ignored.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Struct

from producer_api.inference.codec import Decoded, Head, Limits
from producer_api.streaming.events import EventWriter, Streaming
from shared.state.cards import Card
from shared.wire.generation import CONTENT_TYPE, Generation, encode_generation
from shared.wire.messages import Request
from shared.wire.outcomes import invalid, malformed

from .documents import NamedModelCodec, decoded

MOST_BYTES: Final = 4 * 1024 * 1024
"""Of a request: it is decoded at once."""

MOST_NUMBER: Final = 2**31 - 1
MOST_STOPS: Final = 4
MOST_SEED: Final = 2**64 - 1
_EVENT_ID: Final = re.compile(rb"(\d{1,9})\.(\d{1,9})\Z")
_LAST_EVENT: Final = b"last-event-id"

ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
"""JSON Schema of what OpenAI calls ``json_object``."""

_schemas: Final = msgspec.json.Decoder(dict[str, Any])

Clock = Callable[[], float]
MostTokens = Annotated[int, Meta(ge=1, le=MOST_NUMBER)]


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a stream: ``include_usage`` adds an event with the numbers of tokens before the end."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Members that both kinds of requests have."""

    model: str
    max_tokens: MostTokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=MOST_NUMBER)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class Writing(Struct, frozen=True):
    """What an answer says of itself besides its text.

    Attributes:
        created_s: when it was asked for, in seconds of the Unix epoch.
        top_logprobs: how many likeliest tokens stand beside each; None where none are told at all.
        includes_usage: of a stream: it ends with the numbers of tokens.
        sent: of a stream: characters that the client has already.
    """

    id: str
    model: str
    created_s: int
    top_logprobs: int | None
    includes_usage: bool
    sent: int = 0


class WritingCodec(NamedModelCodec):
    """What codecs of generated texts have in common.

    Args:
        now_s: seconds of the Unix epoch.
    """

    asked_type = Writing
    is_streamed: ClassVar[bool] = True

    def __init__(self, now_s: Clock = time.time) -> None:
        self._now_s = now_s


def check_size(body: bytes) -> None:
    """Refuse a request that is too long.

    Raises:
        RequestError: ``INVALID_INPUT``.
    """
    if not body:
        raise invalid("The body is empty.", "body")
    if len(body) > MOST_BYTES:
        raise invalid(f"A request has at most {MOST_BYTES} bytes, not {len(body)}.", "body")


def check_supported(asked: Sampled) -> None:
    """Refuse what would change the text and is not supported.

    Raises:
        RequestError: ``INVALID_INPUT``.
    """
    if asked.n not in (None, 1):
        raise invalid("n is 1: send several requests for several answers.", "n")
    for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
        if getattr(asked, name):
            raise invalid(f"{name} is not supported.", name)
    if asked.stream_options is not None and not asked.stream:
        raise invalid("stream_options are for streams: send stream, too.", "stream_options")


def decoded_of(
    asked: Sampled,
    source: Mapping[str, Any],
    writing: Writing,
    writer: Callable[[Writing], EventWriter],
    head: Head,
    card: Card,
    limits: Limits,
    generated_id: str,
    *,
    schema: Mapping[str, Any] | None = None,
) -> Decoded:
    """Make a message of what is to be generated.

    Args:
        source: the prompt, the tokens or the messages, as ``Generation`` has them.
        writer: makes what encodes a stream.
        schema: JSON Schema that the text is to fulfil.

    Raises:
        RequestError: ``INVALID_INPUT``, ``MALFORMED``.
    """
    if CONTENT_TYPE not in card.content_types:
        raise invalid(f"The model {card.name} does not generate text.", "model")
    run_ms = limits.max_timeout_ms
    wanted = Generation(
        max_tokens=asked.max_tokens,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=asked.top_k or 0,
        stop=_stops(asked.stop),
        seed=secrets.randbits(63) if asked.seed is None else asked.seed & MOST_SEED,
        stream=bool(asked.stream),
        run_ms=run_ms,
        logprobs=writing.top_logprobs,
        schema=schema,
        **source,
    )
    try:
        body = encode_generation(wanted)
    except UnicodeEncodeError:
        raise malformed("The body is not valid JSON: a text has half of a surrogate pair.", "body") from None
    request = Request(generated_id, limits.default_timeout_ms, CONTENT_TYPE, body, traceparent=head.traceparent)
    streaming, (after, sent) = None, _last_event(head)
    if after is not None and not asked.stream:
        raise malformed("Last-Event-ID is for streams: send stream, too.", "Last-Event-ID")
    if asked.stream:
        streaming = Streaming(writer(msgspec.structs.replace(writing, sent=sent)), after, sent)
    return Decoded(request, True, asked=writing, run_ms=run_ms, streaming=streaming)


def _last_event(head: Head) -> tuple[int | None, int]:
    """Return the number of the last frame that the client has, and how many characters it has."""
    given = head.headers.get(_LAST_EVENT)
    if given is None:
        return None, 0
    found = _EVENT_ID.match(given.strip())
    if found is None:
        raise malformed("Last-Event-ID is the id of an event of this answer.", "Last-Event-ID")
    if head.idempotency_key is None:
        raise malformed("An answer that can be gone on with needs an Idempotency-Key.", "Last-Event-ID")
    return int(found[1]), int(found[2])


def _stops(given: str | Sequence[str] | None) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(given or ())
    if len(stops) > MOST_STOPS:
        raise invalid(f"There are at most {MOST_STOPS} stop texts, not {len(stops)}.", "stop")
    for index, stop in enumerate(stops):
        if not 1 <= len(stop) <= 256:
            raise invalid(
                "A stop text has 1 to 256 characters.", "stop" if isinstance(given, str) else f"stop[{index}]"
            )
    return stops


def schema_of(raw: msgspec.Raw, field: str) -> Mapping[str, Any]:
    """Read a JSON Schema.

    Args:
        field: that has it.

    Raises:
        RequestError: ``INVALID_INPUT``: it is no object.
    """
    return decoded(bytes(raw), _schemas, field)
