"""The slot engine: decoding and pieces of prompts share one pass, and each sequence has room for its whole length."""

from __future__ import annotations

import logging
import sys
from collections.abc import Container
from collections.abc import Sequence as Tokens
from typing import Protocol

import torch
from torch import Tensor

from consumer.generation import checks, choice, sampling
from consumer.generation.detokeniser import Decode
from consumer.generation.engine import EVERYTHING, Capacity, Finish, Sequence, Step, TokenLogprobs
from consumer.generation.seats import Seat, Seats, Work, halves, parts
from consumer.generation.text import TextStream, ending
from consumer.runtimes.oom_splitting import is_out_of_memory
from shared.wire.outcomes import MODEL_ERROR, RequestError

from .cache import SlotCache
from .comparison import logits_after

log = logging.getLogger(__name__)

ALONE = 512
BESIDE = 32


class Network(Protocol):
    """What computes; see :class:`consumer.generation.slots.network.SlotNetwork`."""

    vocabulary: int
    context: int
    cache: SlotCache

    def __call__(self, work: list[Work]) -> Tensor:
        """Run one pass; return logits in fp32 of each work that gives a token."""


class SlotEngine:
    """See :class:`consumer.generation.engine.Engine`.

    Args:
        network: the model, with as many slots as it has memory for.
        decode: the text of tokens.
        ends: tokens with which the model ends a text.
        alone: tokens of prompts that a step reads while nobody decodes.
        beside: tokens of prompts that a step reads while others decode: what they wait longer for it.
    """

    promises = EVERYTHING

    def __init__(
        self, network: Network, decode: Decode, ends: Container[int], alone: int = ALONE, beside: int = BESIDE
    ) -> None:
        self._network, self._decode, self._ends = network, decode, ends
        self._alone, self._beside = alone, beside
        self._seats = Seats(network.cache.shape.slots)
        self._most = sys.maxsize  # tokens of a pass, since memory ran out

    def capacity(self) -> Capacity:
        """See the interface."""
        return Capacity(self._seats.free, self._network.context)

    def start(self, sequence: Sequence) -> None:
        """See the interface."""
        checks.check(sequence, self._network.context, self._network.vocabulary)
        if sequence.constraint is not None:
            for token in sequence.generated:
                sequence.constraint.advance(token)
        self._seats.enter(sequence, TextStream(self._decode, sequence.stop, sequence.generated))

    def cancel(self, id: str) -> None:
        """See the interface."""
        self._seats.leave(id)

    def close(self) -> None:
        """See the interface."""
        self._seats = Seats(0)
        del self._network

    def logits(self, prompt: Tokens[int]) -> sampling.Logits:
        """Return what the network says after ``prompt``, shape (vocabulary,), cut to the context.

        Raises:
            RuntimeError: sequences are in the engine, which must have none.
        """
        if list(self._seats):
            raise RuntimeError("sequences are in the engine")
        found = logits_after(self._network, list(prompt[-self._network.context :]))
        return found.cpu().numpy()

    def step(self) -> list[Step]:
        """See the interface."""
        steps = {step.id: step for step in self._already_over()}
        self._network.cache.move(self._seats.arrange())
        work = self._seats.work(min(self._alone, self._most), min(self._beside, self._most))
        for part in parts(work, self._most):
            for step in self._run(part):
                steps[step.id] = step
        order = [seat.sequence.id for seat in self._seats]
        for step in steps.values():
            if step.finish is not None:
                self._seats.leave(step.id)
        return [steps[id] for id in order if id in steps]

    def _already_over(self) -> list[Step]:
        """End those that had ended before they were taken over, and so have nothing left to read."""
        over = []
        for seat in self._seats:
            if seat.read == 0 and seat.sequence.generated:
                ended = ending(seat.sequence, seat.generated, seat.text.stopped, self._ends)
                if ended is not None:
                    text = "" if seat.text.stopped else seat.text.end()
                    over.append(Step(seat.sequence.id, (), text, ended))
                    seat.read = len(seat.tokens)
        return over

    def _run(self, work: list[Work]) -> list[Step]:
        """Run a pass, in parts if memory does not suffice for it."""
        if not work:
            return []
        try:
            logits = self._network(work)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            cut = halves(work)
            if cut is None:
                return [_failed(work[0].seat, "Memory does not suffice for this sequence.")]
            logits = None
        if logits is None:  # outside of the block: its traceback keeps the tensors of the failed attempt alive
            assert cut is not None
            tokens = sum(one.count for one in work)
            self._most = min(self._most, max(1, tokens // 2))
            log.warning("Memory ran out at %d tokens; from here on a pass has at most %d.", tokens, self._most)
            first = self._run(cut[0])
            failed = {step.id for step in first if step.finish is Finish.ERROR}
            return first + self._run([one for one in cut[1] if one.seat.sequence.id not in failed])
        for one in work:
            one.seat.read += one.count
        return self._chosen([one.seat for one in work if one.gives_token], logits)

    def _chosen(self, seats: list[Seat], logits: Tensor) -> list[Step]:
        """Choose the next token of each of ``seats`` by its row of ``logits``."""
        if not seats:
            return []
        likeliest = logits.argmax(-1).tolist()
        finite = torch.isfinite(logits.amax(-1)).tolist()
        steps = []
        for seat, row, best, is_finite in zip(seats, logits, likeliest, finite, strict=True):
            if not is_finite:
                self._network.cache.clear(seat.slot, len(seat.tokens))
                steps.append(_failed(seat, "The model's output for this input is not finite."))
                continue
            try:
                steps.append(self._advanced(seat, row, best))
            except RequestError as error:
                steps.append(Step(seat.sequence.id, (), "", Finish.ERROR, error=error))
        return steps

    def _advanced(self, seat: Seat, row: Tensor, best: int) -> Step:
        sequence, token = seat.sequence, best
        likely: tuple[TokenLogprobs, ...] = ()
        if choice.needs_logits(sequence):
            token, likely = choice.choose(sequence, row.cpu().numpy(), len(seat.tokens), self._decode)
        seat.tokens.append(token)
        text = seat.text.push(token)
        ended = ending(sequence, seat.generated, seat.text.stopped, self._ends)
        if ended is not None and not seat.text.stopped:
            text += seat.text.end()
        return Step(sequence.id, (token,), text, ended, likely)


def _failed(seat: Seat, why: str) -> Step:
    return Step(seat.sequence.id, (), "", Finish.ERROR, error=RequestError(MODEL_ERROR, why))
