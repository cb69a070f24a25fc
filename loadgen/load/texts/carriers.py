"""[I/O] Carries chats, whose answers come piece by piece, and requests for vectors over HTTP."""

from __future__ import annotations

from loadgen.load.connection import Connection
from loadgen.load.http_carrier import Ended, HttpCarrier
from loadgen.results.ledger import MALFORMED, OK, Ledger
from loadgen.scenario import MSGPACK, Scenario

from .embeddings import Reader, read_native_json, read_native_msgpack, read_openai
from .generation import Generation


class _StreamConnection(Connection):
    """Hands the pieces of an answer of status 200 on as they come."""

    __slots__ = ("_carrier",)

    def __init__(self, carrier: ChatCarrier) -> None:
        super().__init__(carrier)
        self._carrier = carrier

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() == 200:
            self._carrier.piece(self.index, body, self._at_s)
        else:
            super().on_body(body)


class ChatCarrier(HttpCarrier):
    """Carries chats; see :class:`loadgen.load.http_carrier.HttpCarrier`."""

    def __init__(self, scenario: Scenario, ledger: Ledger, address: tuple[str, int], ended: Ended) -> None:
        super().__init__(scenario, ledger, address, ended)
        self._generations: dict[int, Generation] = {}

    def make_connection(self) -> Connection:
        """See the base."""
        return _StreamConnection(self)

    def piece(self, index: int, body: bytes, at_s: float) -> None:
        """A piece of an answer has come."""
        generation = self._generations.get(index)
        if generation is None:
            generation = self._generations[index] = Generation()
        generation.feed(body, at_s)

    def give_up(self, index: int) -> None:
        """See the base."""
        self._keep(index)
        super().give_up(index)

    def broken(self, connection: Connection, index: int, untouched: bool, garbled: bool, at_s: float) -> None:
        """See the base; a stream that had begun is aborted."""
        generation = self._keep(index)
        if generation is not None and not garbled and index in self._carrying:
            del self._carrying[index]
            self._gone(connection)
            self._ended(index, self._ledger.aborted_outcome("connection"), at_s)
            return
        super().broken(connection, index, untouched, garbled, at_s)

    def outcome_of(self, index: int, body: bytes, whole: bool) -> int:
        """See the base: the answer has been read while it came."""
        generation = self._keep(index)
        if generation is None:
            return MALFORMED
        self.answers_read += 1
        end = generation.end()
        if end == "complete":
            return OK
        return MALFORMED if end == "malformed" else self._ledger.aborted_outcome(generation.error)

    def _keep(self, index: int) -> Generation | None:
        """Put what a request's answer said so far into the ledger."""
        generation = self._generations.pop(index, None)
        if generation is not None:
            self._ledger.told[index] = generation.told
        return generation


class EmbedCarrier(HttpCarrier):
    """Carries requests for vectors; see :class:`loadgen.load.http_carrier.HttpCarrier`."""

    def __init__(self, scenario: Scenario, ledger: Ledger, address: tuple[str, int], ended: Ended) -> None:
        super().__init__(scenario, ledger, address, ended)
        self._texts = [payload.texts for payload in scenario.payloads]
        self._read: Reader = read_openai
        if scenario.workload is not None and scenario.workload.api == "native":
            self._read = read_native_msgpack if scenario.accept == MSGPACK else read_native_json

    def outcome_of(self, index: int, body: bytes, whole: bool) -> int:
        """See the base."""
        self.answers_read += 1
        told = self._read(body, self._texts[self._ledger.payload[index]])
        if told is None:
            return MALFORMED
        self._ledger.told[index] = told
        return OK
