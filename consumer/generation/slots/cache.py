"""Keys and values of all sequences: one block of memory for each layer, in which each sequence has a slot."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from consumer.generation.seats import Move, Work

STEP = 32
"""The length up to which decoding looks is rounded up to a multiple of this, so that few shapes occur."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a cache; ``context`` is in tokens."""

    layers: int
    slots: int
    heads: int
    context: int
    size: int

    def bytes(self, itemsize: int = 4) -> int:
        """Return how much memory it takes when all slots are full."""
        return 2 * self.layers * self.slots * self.heads * self.context * self.size * itemsize


class Pass:
    """What one pass of the model has to know about its rows.

    Args:
        work: those that decode first, by slot, and their slots follow one another.
        shape: of the cache.
    """

    __slots__ = ("chunks", "decoding", "first", "keep", "mask", "places", "positions", "seen", "tokens")

    def __init__(self, work: Sequence[Work], shape: Shape, device: str, dtype: torch.dtype) -> None:
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        keep: list[int] = []
        self.chunks: list[tuple[int, int, int, int]] = []  # row from, row to, slot, position
        for one in work:
            seat, start, count = one.seat, one.start, one.count
            if not one.decodes:
                self.chunks.append((len(tokens), len(tokens) + count, seat.slot, start))
            tokens += seat.tokens[start : start + count]
            positions += range(start, start + count)
            slots += [seat.slot] * count
            if start + count == len(seat.tokens):
                keep.append(len(tokens) - 1)
        self.decoding = sum(one.decodes for one in work)
        self.first = slots[0] if self.decoding else 0
        self.tokens, self.positions, rows, self.keep = (
            torch.tensor(values, dtype=torch.long, device=device) for values in (tokens, positions, slots, keep)
        )
        self.places = _places(rows, self.positions, shape)
        self.seen, self.mask = 0, None
        if self.decoding:
            longest = max(positions[: self.decoding]) + 1
            self.seen = min(shape.context, -(-longest // STEP) * STEP)
            hidden = torch.arange(self.seen, device=device) > self.positions[: self.decoding, None]
            mask = torch.zeros(self.decoding, 1, 1, self.seen, dtype=dtype, device=device)
            self.mask = mask.masked_fill_(hidden[:, None, None], float("-inf"))


class SlotCache:
    """Allocated once and used as sequences grow: on a CPU the memory of a slot is taken when it is first written."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: str) -> None:
        self.shape = shape
        blocks = _zeros((shape.layers, 2, shape.slots, shape.heads, shape.context, shape.size), dtype, device)
        self._blocks = blocks.unbind()

    def move(self, moves: Sequence[Move]) -> None:
        """Carry out ``moves``."""
        for one in moves:
            source, target, count = one.source, one.target, one.count
            for block in self._blocks:
                if one.is_swap:
                    block[:, [source, target], :, :count] = block[:, [target, source], :, :count]
                else:
                    block[:, target, :, :count] = block[:, source, :, :count]

    def clear(self, slot: int, count: int) -> None:
        """Remove ``count`` tokens of a sequence that were not finite: what a mask hides counts, as 0 times infinity."""
        for block in self._blocks:
            block[:, slot, :, :count] = 0

    def store(self, layer: int, both: Tensor, now: Pass) -> None:
        """Store the keys and values of a pass: all heads of a row's keys, then all of its values.

        Args:
            both: shape (rows, 2 * key heads, size).
        """
        self._blocks[layer].view(-1, self.shape.size).index_copy_(0, now.places, both.reshape(-1, self.shape.size))

    def look(self, layer: int, query: Tensor, now: Pass, scale: float) -> Tensor:
        """Return what the rows of a pass see, once their own keys and values are stored.

        Args:
            query: shape (rows, query heads, size); there may be several query heads for a key head.
            scale: of the products of queries and keys.

        Returns:
            Shape (rows, query heads, size), contiguous.
        """
        keys, values = self._blocks[layer]
        seen = []
        if now.decoding:
            rows = slice(now.first, now.first + now.decoding)
            decoding = query[: now.decoding]
            seen.append(_decoded(decoding, keys[rows, :, : now.seen], values[rows, :, : now.seen], now.mask, scale))
        for low, high, slot, start in now.chunks:
            end = start + high - low
            mask = (
                None if start == 0 else torch.ones(high - low, end, dtype=torch.bool, device=query.device).tril(start)
            )
            chunk = functional.scaled_dot_product_attention(
                query[low:high].transpose(0, 1)[None],
                keys[slot : slot + 1, :, :end],
                values[slot : slot + 1, :, :end],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=query.shape[1] != self.shape.heads,
            )
            seen.append(chunk[0].transpose(0, 1))
        return seen[0].contiguous() if len(seen) == 1 else torch.cat(seen)


def _places(slots: Tensor, positions: Tensor, shape: Shape) -> Tensor:
    """Return where in a layer's block the keys of a pass go, then the values: of each row, of each head.

    Args:
        slots, positions: of each row.
    """
    heads = torch.arange(2 * shape.heads, device=slots.device)
    block = heads // shape.heads * shape.slots + slots[:, None]
    return ((block * shape.heads + heads % shape.heads) * shape.context + positions[:, None]).flatten()


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    """Return zeros; on a CPU in memory that the system gives when it is first written, which torch's own is at once."""
    if device != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    memory = mmap.mmap(-1, max(1, math.prod(size) * dtype.itemsize), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(size)).view(size)


def _decoded(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attend with one row for each slot. The query heads of a key head take the place of rows: nothing is repeated.

    Two products and a softmax: on a CPU quicker than torch's attention for so few rows; and keys times queries, for
    which there are quicker kernels in bf16 than the other way around.
    """
    rows, heads, size = query.shape
    groups = query.reshape(rows, keys.shape[1], heads // keys.shape[1], size)
    if scale != 1:
        groups = groups * scale
    weights = torch.matmul(keys, groups.transpose(-1, -2)).transpose(-1, -2).contiguous()
    if mask is not None:
        weights += mask
    return torch.matmul(weights.softmax(-1), values).view(rows, heads, size)
