"""Which sequence sits in which slot, and what the next step computes. Pure.

A step is one pass of the model over rows of tokens: one row for each sequence that decodes, and pieces of the prompts
of those that do not yet. The rows that decode are to lie in slots 0, 1, 2, … so that their keys are one view; whoever
sits there is moved. A prompt is read in pieces, so that a long one does not make everybody else wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .engine import Sequence
from .text import TextStream


@dataclass(slots=True, eq=False)
class Seat:
    """One sequence in the engine.

    Attributes:
        slot: where its keys and values are.
        tokens: its prompt and what was generated.
        text: makes its text.
        read: tokens whose keys and values are in the slot. The model has to read at least one more.
    """

    sequence: Sequence
    slot: int
    tokens: list[int]
    text: TextStream
    read: int = 0

    @property
    def unread(self) -> int:
        """Tokens that the model has not read."""
        return len(self.tokens) - self.read

    @property
    def generated(self) -> list[int]:
        """Tokens after the prompt."""
        return self.tokens[len(self.sequence.prompt) :]


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of one sequence that one pass reads: ``count`` of them, from ``start`` on."""

    seat: Seat
    start: int
    count: int
    decodes: bool

    @property
    def gives_token(self) -> bool:
        """Whether the next token can be chosen after it."""
        return self.start + self.count == len(self.seat.tokens)


@dataclass(frozen=True, slots=True)
class Move:
    """Keys and values that change places before a pass: ``count`` tokens, and as many back if they are swapped."""

    source: int
    target: int
    count: int
    is_swap: bool


class Seats:
    """The sequences in the engine, in the order in which they started.

    Args:
        slots: how many there are at most.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._by_id: dict[str, Seat] = {}

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return self._slots - len(self._by_id)

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._by_id.values()))

    def enter(self, sequence: Sequence, text: TextStream) -> Seat:
        """Give a sequence the highest free slot: the lowest ones are for those that decode.

        Raises:
            RuntimeError: none is free, or its id has one.
        """
        if sequence.id in self._by_id:
            raise RuntimeError(f"a sequence {sequence.id!r} is in the engine already")
        taken = {seat.slot for seat in self._by_id.values()}
        slot = next((slot for slot in reversed(range(self._slots)) if slot not in taken), None)
        if slot is None:
            raise RuntimeError("no slot is free")
        seat = Seat(sequence, slot, [*sequence.prompt, *sequence.generated], text)
        self._by_id[sequence.id] = seat
        return seat

    def leave(self, id: str) -> Seat | None:
        """Free the slot of a sequence, if it has one."""
        return self._by_id.pop(id, None)

    def arrange(self) -> list[Move]:
        """Seat those that decode in the lowest slots; return what must move for that, in order."""
        decoding = [seat for seat in self._by_id.values() if seat.unread == 1]
        slots = {seat.slot for seat in decoding}
        holders = {seat.slot: seat for seat in self._by_id.values()}
        empty = [slot for slot in range(len(decoding)) if slot not in slots]
        moves = []
        for seat in decoding:
            if seat.slot >= len(decoding):
                target, source, other = empty.pop(0), seat.slot, None
                other, seat.slot = holders.get(target), target
                count = seat.read if other is None else max(seat.read, other.read)
                if other is not None:
                    other.slot = source
                    holders[source] = other
                moves.append(Move(source, target, count, other is not None))
        return moves

    def work(self, alone: int, beside: int) -> list[Work]:
        """Return what the next step computes, those that decode first and by slot.

        Args:
            alone: tokens of prompts that a step reads while nobody decodes.
            beside: tokens of prompts that a step reads while others decode.
        """
        decoding = sorted((seat for seat in self._by_id.values() if seat.unread == 1), key=lambda seat: seat.slot)
        reading = [seat for seat in self._by_id.values() if seat.unread > 1]
        work = [Work(seat, seat.read, 1, True) for seat in decoding]
        counts = shares([seat.unread for seat in reading], beside if decoding else alone)
        work += [Work(seat, seat.read, count, False) for seat, count in zip(reading, counts, strict=True) if count]
        return work


def shares(unread: list[int], budget: int) -> list[int]:
    """Divide ``budget`` tokens among prompts of which so many tokens are unread, oldest first.

    Half is the oldest one's, so that it ends whatever comes after it; the rest goes to the shortest ones first, so that
    a short prompt does not wait for a long one.
    """
    counts = [0] * len(unread)
    if unread:
        counts[0] = min(unread[0], (budget + 1) // 2)
    left = budget - sum(counts)
    for at in sorted(range(len(unread)), key=lambda at: unread[at]):
        more = min(unread[at] - counts[at], left)
        counts[at] += more
        left -= more
    return counts


def halves(work: list[Work]) -> tuple[list[Work], list[Work]] | None:
    """Cut work in two, of nearly as many tokens each, for when memory does not suffice; None: it cannot be cut.

    The second half may go on where the first one ends.
    """
    if len(work) > 1:
        return work[: len(work) // 2], work[len(work) // 2 :]
    seat, start, count = work[0].seat, work[0].start, work[0].count
    if count < 2:
        return None
    half = count // 2
    return [Work(seat, start, half, False)], [Work(seat, start + half, count - half, False)]


def parts(work: list[Work], most: int) -> list[list[Work]]:
    """Cut work into parts of at most ``most`` tokens, or of what cannot be cut further."""
    if sum(one.count for one in work) > most and (cut := halves(work)) is not None:
        return [*parts(cut[0], most), *parts(cut[1], most)]
    return [work]
