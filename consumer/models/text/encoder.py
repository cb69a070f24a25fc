"""An encoder in torch: loads it, finds out how its batches may be put together, and runs them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from consumer.runtimes.pytorch import packed_linear

from .folder import EMBEDDING, OpenFolder
from .packed import NAME, packed
from .padded import PaddedBatch
from .pooling import pooled
from .probe import agrees, first_position, probe_rows
from .rows import Row

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
LEAST_CONTEXT = 8


class Encoder:
    """A loaded network. Everything here is the executor's thread's.

    Args:
        device: ``cpu`` or ``cuda``.
        precision: a key of ``DTYPES``.

    Attributes:
        packs: whether texts share a batch without padding.
        why: one sentence on that.
        context: most tokens of a text.
        width: numbers that ``run`` returns per row.

    Raises:
        ValueError: the folder's files do not make a network; one sentence.
    """

    def __init__(self, folder: OpenFolder, device: str, precision: str) -> None:
        if precision not in PRECISIONS[device]:
            takes = ", ".join(PRECISIONS[device])
            raise ValueError(f"family text runs in {takes} on {device}, not in {precision}.")
        self._folder, self._device = folder, torch.device(device)
        self._network = _loaded(folder, DTYPES[precision]).to(self._device)
        base = self._network.base_model
        self._takes = set(inspect.signature(base.forward).parameters)
        self._knows_types = "token_type_ids" in self._takes and getattr(base.config, "type_vocab_size", 0) > 1
        self._first = first_position(base)
        most = getattr(base.config, "max_position_embeddings", folder.context)
        self.context = min(folder.context, most - self._first)
        self._attention = base.config._attn_implementation
        with torch.inference_mode():
            self.packs, self.why = self._choose_batches()
            if device == "cpu" and packed_linear.is_possible():
                packed_linear.pack(self._network)
            self.width = len(self.run(probe_rows(folder.vocabulary, LEAST_CONTEXT)[:1])[0])

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Return one row of numbers per text: a vector, or the logits of the classes; shape (len(rows), width)."""
        with torch.inference_mode():
            found = self._packed(rows) if self.packs else self._padded(rows)
            return found.to("cpu", torch.float32).numpy()

    # --- How batches may be put together.

    def _choose_batches(self) -> tuple[bool, str]:
        """Pack if that gives the same answers as one text at a time, in this network as it is."""
        if "position_ids" not in self._takes:
            return False, "Its batches are padded: it does not take positions, which packing needs."
        rows = probe_rows(self._folder.vocabulary, self.context)
        try:
            exact = torch.cat([self._padded([row]) for row in rows])
            self._network.set_attn_implementation(NAME)
            if self._network.base_model.config._attn_implementation != NAME:
                return False, "Its batches are padded: its attention cannot be replaced."
            if agrees(exact, self._packed(rows)):
                return True, "Texts share a batch without padding."
            told = "packed ones give other answers, so it mixes tokens outside of attention"
        except Exception as error:  # a network may fail in any way where it is not run as it was written
            told = f"packed ones fail with {type(error).__name__}"
            log.debug("A packed batch failed.", exc_info=error)
        self._network.set_attn_implementation(self._attention)
        return False, f"Its batches are padded: {told}."

    # --- Running.

    def _packed(self, rows: Sequence[Row]) -> torch.Tensor:
        lengths = [len(row.ids) for row in rows]
        positions = np.concatenate([np.arange(self._first, self._first + length) for length in lengths])
        ids = np.concatenate([row.ids for row in rows])
        inputs = {"input_ids": self._tensor(ids)[None], "position_ids": self._tensor(positions)[None]}
        if "token_type_ids" in self._takes:
            inputs["token_type_ids"] = self._tensor(self._types(rows))[None]
        if self._folder.task == EMBEDDING:
            with packed(lengths):
                hidden = self._network(**inputs).last_hidden_state[0]
            return pooled(hidden, lengths, self._folder.pooling, self._folder.normalizes)
        first = self._tensor(np.cumsum([0, *lengths[:-1]]))
        with packed(lengths), _FirstTokens(self._network, first):
            found: torch.Tensor = self._network(**inputs).logits
        if found.shape[0] != len(rows):
            raise RuntimeError(f"The network gave {found.shape[0]} answers for {len(rows)} texts.")
        return found

    def _padded(self, rows: Sequence[Row]) -> torch.Tensor:
        batch = PaddedBatch(rows, self._padding, self._device)
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
        if self._knows_types:
            inputs["token_type_ids"] = batch.types
        if self._folder.task != EMBEDDING:
            found: torch.Tensor = self._network(**inputs).logits
            return found
        hidden = self._network(**inputs).last_hidden_state[batch.mask.bool()]
        return pooled(hidden, batch.lengths, self._folder.pooling, self._folder.normalizes)

    @property
    def _padding(self) -> int:
        return getattr(self._network.config, "pad_token_id", None) or 0

    def _types(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        if not self._knows_types:
            return np.zeros(sum(len(row.ids) for row in rows), dtype=np.int64)
        return np.concatenate([np.zeros_like(row.ids) if row.types is None else row.types for row in rows])

    def _tensor(self, values: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)


class _FirstTokens:
    """Have a classifier's head see the first token of each text alone: what it makes of ``[:, 0]`` is then per text.

    Args:
        network: its encoder is called ``encoder`` or ``transformer``.
        first: places of these tokens.
    """

    def __init__(self, network: nn.Module, first: torch.Tensor) -> None:
        base = network.base_model
        stack = getattr(base, "encoder", None) or getattr(base, "transformer", None)
        if not isinstance(stack, nn.Module):
            raise RuntimeError("The network has no encoder whose output could be cut.")
        self._stack, self._first = stack, first
        self._handle: Any = None

    def __enter__(self) -> None:
        self._handle = self._stack.register_forward_hook(self._cut)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _cut(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        kept = hidden[0, self._first][:, None]
        if isinstance(output, torch.Tensor):
            return kept
        if isinstance(output, tuple):
            return (kept, *output[1:])
        output["last_hidden_state"] = kept
        return output


def _loaded(folder: OpenFolder, dtype: torch.dtype) -> Any:
    from transformers import AutoModel, AutoModelForSequenceClassification

    kind: Any = AutoModel if folder.task == EMBEDDING else AutoModelForSequenceClassification
    try:
        network, told = kind.from_pretrained(
            folder.path,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # of a dozen libraries
        said = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise ValueError(f"{folder.path} cannot be loaded: {said}.") from error
    missing = sorted(name for name in told["missing_keys"] if "pooler" not in name or folder.task != EMBEDDING)
    if missing:
        raise ValueError(f"the weights in {folder.path} lack {missing[0]!r}, which would be random.")
    return network.eval()
