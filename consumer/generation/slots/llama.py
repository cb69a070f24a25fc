"""Llama and its relatives, computed by code of our own: the same numbers in fewer and larger operations.

What differs from transformers' modules:

- one product for queries, keys and values, and one for gate and up; their weights packed for oneDNN on a CPU;
- of a head's numbers i and i + half lie side by side, so that turning them is one complex product in place. Queries and
  keys are both laid out so, and their products stay what they were;
- queries are scaled as they are turned;
- keys and values are stored by one operation, and logits are computed only for rows that give a token;
- in bf16 and fp16 the sum over the layers stays in fp32, so that less is rounded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from consumer.generation.seats import Work

from . import comparison
from .cache import Pass, Shape, SlotCache
from .limits import CannotServe, Limits
from .linears import fused, linear

MODEL_TYPES = frozenset({"llama", "mistral", "qwen2"})
"""``model_type`` of the configurations in which transformers has this network. SmolLM2 is a ``llama``."""

_FIXED_ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})
"""Kinds of rotary embedding whose angles depend on the position alone, and not on the length of the text."""


def knows(model: PreTrainedModel) -> bool:
    """Say whether this is a network of the kind that :class:`LlamaNetwork` computes, by its configuration."""
    config: Any = model.config
    rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        config.model_type in MODEL_TYPES
        and config.hidden_act == "silu"
        and rotation in _FIXED_ROTATIONS
        and not config.is_encoder_decoder
    )


class LlamaNetwork:
    """A network and its slots; see :class:`consumer.generation.slots.engine.Network`.

    Args:
        model: one that it :func:`knows`, in evaluation mode, on its device. Its layers are taken out of it one after
            the other, so that there are never two copies of the weights.
        slots: sequences at once.
        context: most tokens of a sequence. A model that only looks back over a window is served within it.

    Raises:
        CannotServe: it computes something else than ``model`` does, which cannot be used any more.
    """

    def __init__(self, model: PreTrainedModel, slots: int, context: int) -> None:
        limits = Limits.of(model.config, context)
        self.vocabulary, self.context = limits.vocabulary, limits.context
        self._device, self._dtype = str(model.device), model.dtype
        self.cache = SlotCache(limits.shape(slots), self._dtype, self._device)
        expected = comparison.expected(model, limits)
        try:
            self._take(model, self.cache.shape)
        except (AttributeError, RuntimeError) as error:
            raise CannotServe(f"its layers are not those of its kind: {type(error).__name__}: {error}.") from error
        comparison.compare(self, expected, self._dtype)

    @torch.inference_mode()
    def _take(self, model: Any, shape: Shape) -> None:
        inner = model.model
        self._embedding = inner.embed_tokens.weight.detach().clone()
        self._norm, self._eps = _exact(inner.norm.weight), inner.norm.variance_epsilon
        self._queries = model.config.num_attention_heads
        self._turned = self._queries + shape.heads
        scales = torch.ones(self._turned, 1, device=model.device)
        scales[: self._queries] = inner.layers[0].self_attn.scaling
        self._scales = scales
        self._angles = _angles(inner.rotary_emb, self.context, shape.size, model.device)
        self._layers = []
        for index, layer in enumerate(inner.layers):
            self._layers.append(_Layer(layer, shape.size))
            inner.layers[index] = nn.Identity()
            del layer
        self._head = linear(model.lm_head.weight.detach(), model.lm_head.bias)

    @torch.inference_mode()
    def __call__(self, work: list[Work]) -> Tensor:
        """See the interface."""
        now = Pass(work, self.cache.shape, self._device, self._dtype)
        turns = self._angles[now.positions][:, None] * self._scales
        x = functional.embedding(now.tokens, self._embedding).float()
        for index, layer in enumerate(self._layers):
            seen = self._attended(index, layer.read(self._normed(x, layer.norm)), turns, now)
            x += layer.output(seen)
            gate, up = layer.widen(self._normed(x, layer.second_norm)).chunk(2, -1)
            x += layer.narrow(functional.silu(gate, inplace=True).mul_(up))
        return self._head(self._normed(x[now.keep], self._norm)).float()

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, self._eps).to(self._dtype)

    def _attended(self, index: int, read: Tensor, turns: Tensor, now: Pass) -> Tensor:
        """Attend with ``read``: queries, keys and values side by side, which are turned in place."""
        rows, size = len(read), self.cache.shape.size
        heads = read.view(rows, -1, size)
        turned = heads[:, : self._turned]
        numbers = turned if turned.dtype is torch.float32 else turned.float()
        torch.view_as_complex(numbers.view(rows, self._turned, size // 2, 2)).mul_(turns)
        if numbers is not turned:
            turned.copy_(numbers)
        self.cache.store(index, heads[:, self._queries :], now)
        return self.cache.look(index, heads[:, : self._queries], now, 1.0).view(rows, -1)


class _Layer:
    """The weights of one layer."""

    __slots__ = ("narrow", "norm", "output", "read", "second_norm", "widen")

    def __init__(self, layer: Any, size: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norm = _exact(layer.input_layernorm.weight)
        self.second_norm = _exact(layer.post_attention_layernorm.weight)
        self.read = fused(
            (attention.q_proj, attention.k_proj, attention.v_proj),
            lambda index, rows: rows if index == 2 else _paired(rows, size),
        )
        self.output = fused((attention.o_proj,))
        self.widen = fused((mlp.gate_proj, mlp.up_proj))
        self.narrow = fused((mlp.down_proj,))


def _exact(weight: Tensor) -> Tensor:
    """Copy a small weight in fp32. A copy also in fp32: as it was read, it would keep the whole file in memory."""
    return weight.detach().to(torch.float32, copy=True)


def _paired(rows: Tensor, size: int) -> Tensor:
    """Put row ``i`` of each head beside row ``i + size / 2``; ``rows`` has shape (heads * size, ...)."""
    return rows.reshape(-1, 2, size // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _angles(rotary: Any, context: int, size: int, device: torch.device) -> Tensor:
    """Return by what a pair is multiplied: complex, shape (context, size / 2)."""
    positions = torch.arange(context, device=device)[None]
    cos, sin = rotary(torch.zeros(1, device=device), positions)
    if cos.shape[-1] != size:
        raise CannotServe("it turns a part of each head only.")
    return torch.complex(cos[0, :, : size // 2], sin[0, :, : size // 2])
