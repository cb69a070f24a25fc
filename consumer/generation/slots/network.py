"""A decoder of transformers as the slot engine runs it: as it is, but for its attention.

All rows of a pass are one row of tokens for the model, with positions of their own. Attention is the only operation of
a decoder that looks at other tokens; transformers lets one register a function for it, and hands on what it is given.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from consumer.generation.seats import Work

from . import comparison
from .cache import Pass, SlotCache
from .limits import CannotServe, Limits

ATTENTION = "headrace_slots"


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **given: Any
) -> tuple[Tensor, None]:
    """Attend as transformers asks: to tensors of shape (1, heads, rows, size); returns (1, rows, heads, size)."""
    cache, now = given["slot_cache"], given["slot_pass"]
    window = given.get("sliding_window")
    if given.get("softcap") or given.get("s_aux") is not None or (window and window < cache.shape.context):
        raise CannotServe("its attention is of a kind that the slot engine does not have.")
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    cache.store(module.layer_idx, torch.cat((key, value), 1), now)
    return cache.look(module.layer_idx, query, now, scaling)[None], None


AttentionInterface.register(ATTENTION, _attend)


class SlotNetwork:
    """A model and its slots.

    Args:
        model: a causal language model in evaluation mode, on its device. It is changed.
        slots: sequences at once.
        context: most tokens of a sequence. A model that only looks back over a window is served within it.

    Raises:
        CannotServe: in slots it computes something else than it did.
    """

    def __init__(self, model: PreTrainedModel, slots: int, context: int) -> None:
        limits = Limits.of(model.config, context)
        self.vocabulary, self.context = limits.vocabulary, limits.context
        self._model, self._device = model, str(model.device)
        self.cache = SlotCache(limits.shape(slots), model.dtype, self._device)
        expected = comparison.expected(model, limits)
        model.set_attn_implementation(ATTENTION)
        comparison.compare(self, expected, model.dtype)

    @torch.inference_mode()
    def __call__(self, work: list[Work]) -> Tensor:
        """Run one pass.

        Args:
            work: :class:`consumer.generation.seats.Work`, those that decode first.

        Returns:
            Logits in fp32 of each work that gives a token, shape (n, vocabulary).
        """
        now = Pass(work, self.cache.shape, self._device, self._model.dtype)
        logits: Tensor = self._model(
            input_ids=now.tokens[None],
            position_ids=now.positions[None],
            use_cache=False,
            logits_to_keep=now.keep,
            slot_pass=now,
            slot_cache=self.cache,
        ).logits[0]
        return logits.float()
