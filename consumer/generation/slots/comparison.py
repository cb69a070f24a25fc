"""Whether a network in slots computes what the model of transformers does that it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from consumer.generation.engine import Sequence
from consumer.generation.seats import Seat, Work
from consumer.generation.text import TextStream

from .cache import SlotCache
from .limits import CannotServe, Limits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SAMPLE = 12
"""Tokens of the sequence with which they are compared."""
_LEAST_TOLERANCE, _TOLERANCE = 1e-3, 5e-2
"""Largest difference, as a share of the largest logit: in fp32, and in less."""


class Compared(Protocol):
    """What is compared; see :class:`consumer.generation.slots.engine.Network`."""

    @property
    def cache(self) -> SlotCache:
        """Its slots, of which the first one is used and cleared."""

    def __call__(self, work: list[Work]) -> Tensor:
        """Run one pass."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Tokens, and the logits after the last of them; shape (vocabulary,)."""

    tokens: list[int]
    logits: Tensor


@torch.inference_mode()
def expected(model: PreTrainedModel, limits: Limits) -> Expected:
    """Ask the model as it is."""
    tokens = [(7919 * at + 11) % limits.vocabulary for at in range(min(_SAMPLE, limits.context))]
    asked = torch.tensor([tokens], device=model.device)
    return Expected(tokens, model(input_ids=asked, use_cache=False).logits[0, -1].float())


@torch.inference_mode()
def compare(network: Compared, expected: Expected, dtype: torch.dtype) -> None:
    """Read two pieces of the tokens as of a prompt and the others one by one, and compare the last logits.

    Raises:
        CannotServe: they differ, or the network fails.
    """
    tokens, seat = expected.tokens, _seat(expected.tokens)
    count, piece = len(tokens), len(tokens) // 3
    try:
        for at in (0, piece) if piece else ():
            network([Work(seat, at, piece, False)])
        for at in range(2 * piece, count - 1):
            network([Work(seat, at, 1, True)])
        found = network([Work(seat, count - 1, 1, True)])[0]
    except CannotServe:
        raise
    except Exception as error:
        raise CannotServe(f"it cannot run in slots: {type(error).__name__}: {error}.") from error
    network.cache.clear(0, count)
    scale = float(expected.logits.abs().max()) or 1.0
    tolerance = _LEAST_TOLERANCE if dtype is torch.float32 else _TOLERANCE
    if not float((found - expected.logits).abs().max()) <= tolerance * scale:
        raise CannotServe("in slots it computes something else than transformers does.")


def logits_after(network: Compared, tokens: list[int]) -> Tensor:
    """Return the logits after ``tokens``, shape (vocabulary,), while nobody has a slot."""
    found = network([Work(_seat(tokens), 0, len(tokens), False)])[0]
    network.cache.clear(0, len(tokens))
    return found


def _seat(tokens: list[int]) -> Seat:
    return Seat(Sequence("", tuple(tokens), 1), 0, tokens, TextStream(lambda tokens: "", ()))
