"""Classifies texts with a bag of words and pairs of words: probabilities by labels."""

from __future__ import annotations

from typing import Any

import torch

from .text_handler import TextHandler
from .util import map_class_to_label


class TextClassifier(TextHandler):
    """See the module; the network takes the numbers of all words of a batch, and where each text begins.

    Attributes:
        ngrams: longest sequence of words that has a number of its own.
    """

    ngrams = 2

    def preprocess(self, data: Any) -> Any:
        """Return numbers and offsets of a batch."""
        texts = [self._numbers(self.text_of(row)) for row in data]
        offsets = [0]
        for one in texts[:-1]:
            offsets.append(offsets[-1] + len(one))
        flat = [number for one in texts for number in one]
        return torch.tensor(flat, device=self.device), torch.tensor(offsets, device=self.device)

    def _numbers(self, text: str) -> list[int]:
        words = self._tokenize(self._remove_html_tags(text))
        pieces = list(words)
        for size in range(2, self.ngrams + 1):
            pieces += [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]
        return [self._number(one) for one in pieces] or [self._number("<unk>")]

    def _number(self, word: str) -> int:
        vocabulary: Any = self.source_vocab
        if hasattr(vocabulary, "get"):
            return int(vocabulary.get(word, vocabulary.get("<unk>", 0)))
        return int(vocabulary[word])

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the network; probabilities come out."""
        with torch.inference_mode():
            return torch.softmax(self.model(*data, *args, **kwargs), dim=1)

    def postprocess(self, data: Any) -> Any:
        """Return for each text all labels with their probabilities."""
        return map_class_to_label(data.tolist(), self.mapping)
