"""An encoder in torch: loads it, finds out how its batches may be put together, and runs them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from consumer.runtimes.pytorch import packed_linear

from .folder import EMBEDDING, OpenFolder
from .packed import NAME, packed, show_first_tokens
from .padded import PaddedBatch
from .pooling import pooled
from .probe import agrees, first_position, probe_rows
from .rows import Row
from .side_by_side import SideBySide

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
LEAST_CONTEXT = 8


class Encoder:
    """A loaded network. Everything here is the executor's thread's.

    Args:
        device: ``cpu`` or ``cuda``.
        precision: a key of ``DTYPES``.
        threads: of one batch, on a CPU.

    Attributes:
        packs: whether texts share a batch without padding.
        why: one sentence on that.
        context: most tokens of a text.
        width: numbers that ``run`` returns per row.

    Raises:
        ValueError: the folder's files do not make a network; one sentence.
    """

    def __init__(self, folder: OpenFolder, device: str, precision: str, threads: int = 1) -> None:
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
        self._side_by_side = SideBySide(self._packed, threads if device == "cpu" else 1)
        with torch.inference_mode():
            self.packs, self.why = self._choose_batches()
            if device == "cpu" and packed_linear.is_possible():
                packed_linear.pack(self._network)
            self.width = len(self.run(probe_rows(folder.vocabulary, LEAST_CONTEXT)[:1])[0])

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Return one row of numbers per text: a vector, or the logits of the classes; shape (len(rows), width)."""
        with torch.inference_mode():
            found = self._side_by_side(rows) if self.packs else self._padded(rows)
            return found.to("cpu", torch.float32).numpy()

    def close(self) -> None:
        """End the threads."""
        self._side_by_side.close()

    # --- How batches may be put together.

    def _choose_batches(self) -> tuple[bool, str]:
        """Pack if that gives the same answers as one text at a time, in this network as it is."""
        if "position_ids" not in self._takes:
            return False, "Its batches are padded: it does not take positions, which packing needs."
        rows = probe_rows(self._folder.vocabulary, self.context)
        try:
            exact = torch.cat([self._padded([row]) for row in rows])
            if self._folder.task != EMBEDDING:
                show_first_tokens(self._network)
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
        with packed(lengths):
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
