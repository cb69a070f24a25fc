"""[I/O] Carries requests straight onto a model's Redis stream, the fast way of docs/protocol.md.

One connection adds requests, another reads the reply stream of this process. Names and layout are written down here
once more, on purpose: the generator is a client of the protocol's page and not of the code that serves it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, cast

import hiredis
import msgspec

from loadgen.errors import LoadgenError
from loadgen.results.ledger import CONNECTION, MALFORMED, OK, Ledger
from loadgen.scenario import Payload, Scenario, Target

from .replies import ErrorCode, Results
from .texts.embeddings import read_native_msgpack

_BLOCK_MS: Final = 1000
_HINTS: Final = 1000
_UNLINK_EVERY: Final = 64
Ended = Callable[[int, int, float], None]


class _Reply(Results, kw_only=True):
    ok: bool
    final: bool = True
    error: ErrorCode | None = None


def stream_key(model: str) -> str:
    """Return the key of a model's work stream."""
    return f"hr:{{{model}}}:q:default"


def card_key(model: str) -> str:
    """Return the key of a model's card."""
    return f"hr:{{{model}}}:card"


def pack_command(*arguments: bytes | str | int) -> bytes:
    """Return a command as Redis reads it (RESP, an array of bulk strings)."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class _Link(asyncio.Protocol):
    """A connection to Redis; answers come in the order of the commands."""

    def __init__(self, answered: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._reader, self._answered, self._lost = hiredis.Reader(), answered, lost
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._answered(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


class StreamCarrier:
    """Adds requests to the stream and hears of their replies.

    Args:
        ended: is called with a request's index, its outcome and the time at which that was known.
    """

    def __init__(self, scenario: Scenario, ledger: Ledger, address: tuple[str, int], ended: Ended) -> None:
        self._ledger, self._ended, self._address, self._target = ledger, ended, address, scenario.target
        self._me = f"loadgen-{secrets.token_hex(8)}"
        self._key = stream_key(scenario.model)
        self._reply_key = f"hr:{{{scenario.model}}}:r:default:{self._me}-"
        self._stream = f"hr:{{{scenario.model}}}:rs:default:{self._me}"
        self._ttl_ms = max(1, round(scenario.timeout_s * 1000))
        self._prefixes = [self._prefix(payload) for payload in scenario.payloads]
        self._decode = msgspec.msgpack.Decoder(_Reply).decode
        self._texts = None if scenario.workload is None else [payload.texts for payload in scenario.payloads]
        self._expected: deque[tuple[str, int]] = deque()
        self._open: dict[bytes, int] = {}
        self._done: list[str] = []
        self._cursor: bytes = b"0-0"
        self._shutting = False
        self.parsed_replies = 0

    async def open(self) -> None:
        """Connect, and begin to read the reply stream.

        Raises:
            LoadgenError: the server refuses the password.
        """
        loop = asyncio.get_running_loop()
        _, self._commands = await loop.create_connection(lambda: _Link(self._command_done, self._lost), *self._address)
        _, self._hints = await loop.create_connection(lambda: _Link(self._hinted, self._lost), *self._address)
        for link in (self._commands, self._hints):
            login(self._target, link.transport.write)
        greeting = login_answers(self._target)
        self._expected.extend([("greeting", -1)] * greeting)
        self._greetings = greeting
        self._read_hints()

    def launch(self, index: int, now_s: float) -> None:
        """Add a request to the stream."""
        name = b"%b-%d" % (self._me.encode(), index)
        message = self._prefixes[self._ledger.payload[index]] + bytes([0xD9, len(name)]) + name
        self._open[name] = index
        self._expected.append(("add", index))
        self._ledger.sent_s[index] = perf_counter()
        self._commands.transport.write(pack_command("XADD", self._key, "NOMKSTREAM", "*", "m", message))

    def give_up(self, index: int) -> None:
        """Do nothing: a late reply finds its request's outcome settled."""

    async def shut(self) -> None:
        """Delete the replies that were read and this process's stream, and close."""
        self._shutting = True
        if hasattr(self, "_commands"):
            keys = [*self._done, self._stream]
            self._commands.transport.write(pack_command("UNLINK", *keys))
            self._commands.transport.close()
        if hasattr(self, "_hints"):
            self._hints.transport.abort()

    def _prefix(self, payload: Payload) -> bytes:
        """Return all of a message but its last member's value, the id."""
        members: dict[str, Any] = {"v": 1, "ttl_ms": self._ttl_ms, "rt": self._me}
        members |= {"ct": payload.content_type, "body": payload.body}
        packed = b"".join(msgspec.msgpack.encode(part) for member in members.items() for part in member)
        return bytes([0x80 | (len(members) + 1)]) + packed + msgspec.msgpack.encode("id")

    def _read_hints(self) -> None:
        if not self._shutting:
            command = ("XREAD", "COUNT", _HINTS, "BLOCK", _BLOCK_MS, "STREAMS", self._stream, self._cursor)
            self._hints.transport.write(pack_command(*command))

    def _command_done(self, answer: Any) -> None:
        kind, index = self._expected.popleft()
        if kind == "add" and not isinstance(answer, bytes):
            code = "no_stream" if answer is None else str(answer).partition(" ")[0]
            self._ended(index, self._ledger.http_outcome(503, code), perf_counter())
        elif kind == "look" and isinstance(answer, bytes):
            self._replied(index, answer, perf_counter())

    def _hinted(self, answer: Any) -> None:
        if self._greetings and not isinstance(answer, list):
            self._greetings -= 1
            return
        if isinstance(answer, Exception):  # refused: no reply will ever come
            self._lost()
            return
        at_s = perf_counter()
        for identity, pairs in answer[0][1] if isinstance(answer, list) else ():
            self._cursor = identity
            fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
            index = self._open.get(fields.get(b"id", b""))
            if index is None:
                continue
            if b"reply" in fields:
                self._replied(index, fields[b"reply"], at_s)
            elif b"entry" in fields:
                self._ended(index, self._ledger.http_outcome(504, "expired"), at_s)
            else:
                self._expected.append(("look", index))
                self._commands.transport.write(pack_command("LINDEX", f"{self._reply_key}{index}", 0))
        self._read_hints()

    def _replied(self, index: int, reply: bytes, at_s: float) -> None:
        try:
            value = self._decode(reply)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            value = None
        if value is not None and not value.final:  # a part of the answer, which is whole later
            return
        name = b"%b-%d" % (self._me.encode(), index)
        if self._open.pop(name, None) is None:
            return
        self._done.append(f"{self._reply_key}{index}")
        if len(self._done) >= _UNLINK_EVERY:
            self._expected.append(("unlink", index))
            self._commands.transport.write(pack_command("UNLINK", *self._done))
            self._done.clear()
        self.parsed_replies += 1
        if value is None:
            self._ended(index, MALFORMED, at_s)
        elif not value.ok:
            code = value.error.code if value.error else None
            self._ended(index, self._ledger.http_outcome(500, code), at_s)
        else:
            is_answer = self._read(index, reply) if self._texts else bool(value.predictions or value.outputs)
            self._ended(index, OK if is_answer else MALFORMED, at_s)

    def _read(self, index: int, reply: bytes) -> bool:
        """Keep what the answer to a request for vectors says; False when it is no such answer."""
        assert self._texts is not None
        told = read_native_msgpack(reply, self._texts[self._ledger.payload[index]])
        if told is None:
            return False
        self._ledger.told[index] = told
        return True

    def _lost(self) -> None:
        if not self._shutting:
            lost, self._open = list(self._open.values()), {}
            for index in lost:
                self._ended(index, CONNECTION, perf_counter())


def login(target: Target, write: Callable[[bytes], Any]) -> None:
    """Send what a server with a password, or another database than 0, must hear first."""
    if target.password is not None:
        write(pack_command("AUTH", *([target.username] if target.username else []), target.password))
    if target.database:
        write(pack_command("SELECT", target.database))


def login_answers(target: Target) -> int:
    """Return how many answers `login` brings."""
    return (target.password is not None) + bool(target.database)


def read_stream_card(target: Target, model: str, timeout_s: float) -> dict[str, Any] | None:
    """Return the model's card from Redis, or None when no consumer has ever served it.

    Raises:
        LoadgenError: the server cannot be reached, or refuses.
    """
    import socket

    reader = hiredis.Reader()
    try:
        with socket.create_connection((target.host, target.port), timeout=timeout_s) as connection:
            login(target, connection.sendall)
            connection.sendall(pack_command("HGETALL", card_key(model)))
            answers: list[Any] = []
            while len(answers) <= login_answers(target):
                data = connection.recv(65536)
                if not data:
                    raise LoadgenError(f"{target.shown} closed the connection.")
                reader.feed(data)
                while (answer := reader.gets()) is not False:
                    answers.append(answer)
    except hiredis.ProtocolError:
        raise LoadgenError(f"{target.shown} does not speak Redis's protocol.") from None
    except OSError as error:
        raise LoadgenError(f"Cannot reach {target.shown}: {error.strerror or error}.") from None
    refused = next((answer for answer in answers if isinstance(answer, Exception)), None)
    if refused is not None:
        raise LoadgenError(f"{target.shown} refuses: {refused}.")
    pairs = answers[-1]
    card = {key.decode(): msgspec.json.decode(value) for key, value in zip(pairs[::2], pairs[1::2], strict=True)}
    return card or None
