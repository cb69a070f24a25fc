"""A decoder of transformers as the slot engine runs it: as it is, but for its attention.

All rows of a pass are one row of tokens for the model, with positions of their own. Attention is the only operation of
a decoder that looks at other tokens; transformers lets one register a function for it, and hands on what it is given.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from .cache import Pass, Shape, SlotCache

ATTENTION = "headrace_slots"
_SAMPLE = 12
"""Tokens of the sequence with which a model is compared with itself."""


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **given: Any
) -> tuple[Tensor, None]:
    """Attend as transformers asks: to tensors of shape (1, heads, rows, size); returns (1, rows, heads, size)."""
    cache, now = given["slot_cache"], given["slot_pass"]
    window = given.get("sliding_window")
    if given.get("softcap") or given.get("s_aux") is not None or (window and window < cache.shape.context):
        raise CannotServe("its attention is of a kind that the slot engine does not have.")
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    return cache.attend(module.layer_idx, query, key, value, now, scaling)[None], None


AttentionInterface.register(ATTENTION, _attend)


class CannotServe(ValueError):
    """A model that the slot engine cannot run; one sentence that says why."""


class SlotNetwork:
    """A model and its slots.

    Args:
        model: a causal language model in evaluation mode, on its device. It is changed.
        slots: sequences at once.
        context: most tokens of a sequence. A model that only looks back over a window is served within it.
    """

    def __init__(self, model: PreTrainedModel, slots: int, context: int) -> None:
        config: Any = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        window = getattr(config, "sliding_window", None)
        longest: int = config.max_position_embeddings
        self.vocabulary: int = config.vocab_size
        self.context = min(context, longest, window or longest)
        self._model, self._device = model, str(model.device)
        plain = model.config._attn_implementation
        self.cache = SlotCache(
            Shape(config.num_hidden_layers, slots, heads, self.context, size), model.dtype, self._device
        )
        self._compare(plain)

    @torch.inference_mode()
    def __call__(self, work: list[Any]) -> Tensor:
        """Run one pass.

        Args:
            work: :class:`consumer.generation.seats.Work`, those that decode first.

        Returns:
            Logits in fp32 of each work that gives a token, shape (n, vocabulary).
        """
        now = Pass(work, self.context, self._device, self._model.dtype)
        logits: Tensor = self._model(
            input_ids=now.tokens[None],
            position_ids=now.positions[None],
            use_cache=False,
            logits_to_keep=now.keep,
            slot_pass=now,
            slot_cache=self.cache,
        ).logits[0]
        return logits.float()

    @torch.inference_mode()
    def _compare(self, plain: str) -> None:
        """Compare the model in slots with the model as it is.

        Raises:
            CannotServe: they differ, so that it is none of those that this can be done with.
        """
        from consumer.generation.engine import Sequence
        from consumer.generation.seats import Seat, Work
        from consumer.generation.text import TextStream

        count = min(_SAMPLE, self.context)
        tokens = [(7919 * at + 11) % self.vocabulary for at in range(count)]
        expected = self._model(input_ids=torch.tensor([tokens], device=self._device), use_cache=False).logits[0, -1]
        self._model.set_attn_implementation(ATTENTION)
        seat = Seat(Sequence("", tuple(tokens), 1), 0, tokens, TextStream(lambda tokens: "", ()))
        cut = count // 2
        try:
            self([Work(seat, 0, cut, False)])
            for at in range(cut, count - 1):
                self([Work(seat, at, 1, False)])
            found = self([Work(seat, count - 1, 1, True)])[0]
        except CannotServe:
            raise
        except Exception as error:
            raise CannotServe(f"its attention cannot be replaced: {type(error).__name__}: {error}.") from error
        self.cache.clear(0, count)
        scale = float(expected.float().abs().max()) or 1.0
        tolerance = 1e-3 if self._model.dtype is torch.float32 else 5e-2
        if not float((found - expected.float()).abs().max()) <= tolerance * scale:
            raise CannotServe(f"in slots it computes something else than transformers does with attention {plain!r}.")
