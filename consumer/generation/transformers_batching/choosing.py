"""Tokens chosen by Headrace within transformers' continuous batching.

There, sampling is set for all sequences together, from one stream of random numbers. Its processors of logits are given
the rows of a batch together with the sequences that they belong to, so one of them can decide: it leaves of a row only
the token that was chosen, and the likeliest one is taken.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from consumer.generation import choice
from consumer.generation.detokeniser import Decode
from consumer.generation.engine import Sequence, TokenLogprobs
from shared.wire.outcomes import MODEL_ERROR, RequestError

Chosen = tuple[TokenLogprobs, ...] | RequestError


class Choosing(ContinuousBatchingLogitsProcessor):
    """Chooses the next token of each sequence in a batch.

    Args:
        decode: the text of tokens.

    Attributes:
        chosen: for each key one entry for each token since it was added: its log-probabilities, or why there is none.
        is_spoiled: a row of the last batch was not finite, and it is not known whose doing that is: all sequences of a
            batch are in one attention, in which zero times not-a-number is not-a-number. Nothing was chosen.
    """

    supported_kwargs: dict[str, type] = {}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._sequences: dict[str, tuple[Sequence, int]] = {}
        self._rows: list[str] = []
        self.chosen: dict[str, list[Chosen]] = {}
        self.is_spoiled = False

    def add(self, key: str, sequence: Sequence, made: int) -> None:
        """Take on a sequence of which ``made`` tokens are there beside those that it came with."""
        self._sequences[key] = sequence, len(sequence.prompt) + len(sequence.generated) + made
        self.chosen[key] = []

    def drop(self, key: str) -> None:
        """Forget it."""
        self._sequences.pop(key, None)
        self.chosen.pop(key, None)

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        """See transformers; there is nothing to fill."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Tensor:
        """Note which sequence each row of the batch that comes next belongs to."""
        self._rows = [one.state.request_id for one in requests_with_new_token]
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """Leave of each row whose token is not simply the likeliest one only the token that was chosen."""
        rows = scores[: len(self._rows)]  # the others are of prompts that are read in pieces, and are not used
        finite = torch.isfinite(rows.amax(-1)).tolist()
        self.is_spoiled = not all(finite) and len(self._sequences) > 1
        if self.is_spoiled:
            return scores
        for row, (key, is_finite) in enumerate(zip(self._rows, finite, strict=True)):
            if not is_finite:
                error = RequestError(MODEL_ERROR, "The model's output for this input is not finite.")
                self.chosen[key].append(error)
            elif choice.needs_logits(self._sequences[key][0]):
                self._choose(key, rows[row])
            else:
                self.chosen[key].append(())
        return scores

    def _choose(self, key: str, row: Tensor) -> None:
        chosen, (sequence, began) = self.chosen[key], self._sequences[key]
        try:
            token, likely = choice.choose(sequence, row.cpu().numpy(), began + len(chosen), self._decode)
        except RequestError as error:
            chosen.append(error)
            return
        chosen.append(likely)
        row.fill_(-torch.inf)
        row[token] = 0.0
