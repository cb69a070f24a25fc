"""Texts of a batch as one row without padding: linear layers see all tokens at once, attention each text by itself.

transformers lets a model's attention be replaced (``AttentionInterface``), so that this works with any model whose only
operation across tokens is attention, without knowing its code. ``encoder.py`` tries it before it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "headrace_packed"

_batch = threading.local()


@contextmanager
def packed(lengths: Sequence[int]) -> Iterator[None]:
    """Have attention on this thread stay within texts of ``lengths`` tokens, which lie one behind the other."""
    _batch.cuts = tuple(pairwise(accumulate(lengths, initial=0)))
    try:
        yield
    finally:
        _batch.cuts = None


def show_first_tokens(network: nn.Module) -> None:
    """Have a classifier's head see the first token of each packed text alone: its ``[:, 0]`` is then per text.

    Args:
        network: its encoder is called ``encoder`` or ``transformer``; without a packed batch nothing changes.

    Raises:
        RuntimeError: it has no such part.
    """
    base: Any = network.base_model
    stack = getattr(base, "encoder", None) or getattr(base, "transformer", None)
    if not isinstance(stack, nn.Module):
        raise RuntimeError("The network has no encoder whose output could be cut.")
    stack.register_forward_hook(_first_tokens)


def _first_tokens(module: nn.Module, inputs: Any, output: Any) -> Any:
    cuts = getattr(_batch, "cuts", None)
    if cuts is None:
        return output
    hidden = output if isinstance(output, torch.Tensor) else output[0]
    kept = hidden[0, torch.tensor([begin for begin, _ in cuts], device=hidden.device)][:, None]
    if isinstance(output, torch.Tensor):
        return kept
    if isinstance(output, tuple):
        return (kept, *output[1:])
    output["last_hidden_state"] = kept
    return output


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each text; (1, heads, tokens, size) in, (1, tokens, heads, size) out."""
    heads, tokens, size = query.shape[1], query.shape[2], value.shape[3]
    out = query.new_empty((1, tokens, heads, size))
    grouped = key.shape[1] != heads
    for begin, end in _batch.cuts:
        part = scaled_dot_product_attention(
            query[:, :, begin:end],
            key[:, :, begin:end],
            value[:, :, begin:end],
            attn_mask=_window(end - begin, sliding_window, query.device),
            scale=scaling,
            enable_gqa=grouped,
        )
        out[:, begin:end] = part.transpose(1, 2)
    return out, None


def _window(tokens: int, sliding_window: int | None, device: torch.device) -> torch.Tensor | None:
    """Return what a token may see where layers see their surroundings only; None for all of the text.

    The models that have such layers hand on the first distance that is too far.
    """
    if sliding_window is None or tokens <= sliding_window:
        return None
    places = torch.arange(tokens, device=device)
    return (places[:, None] - places[None]).abs() < sliding_window


AttentionInterface.register(NAME, _attend)
