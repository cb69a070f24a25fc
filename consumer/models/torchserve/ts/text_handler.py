"""The handler for texts that others derive from: loads the vocabulary, and cuts texts into words."""

from __future__ import annotations

import os
import re
import string
from typing import Any

import torch

from .base_handler import BaseHandler
from .context import Context
from .util import PredictionException

VOCABULARY = "source_vocab.pt"
_TAG = re.compile(r"<[^>]*>")
_WORD = re.compile(r"[\w']+|[.,!?()]")


class TextHandler(BaseHandler):
    """See the module.

    Attributes:
        source_vocab: from words to numbers: a dict, or what has ``[word]``.
        tokenizer: from a text to words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.source_vocab: Any = None
        self.tokenizer: Any = lambda text: _WORD.findall(text.lower())

    def initialize(self, context: Context) -> None:
        """Load the network and the vocabulary.

        Raises:
            ValueError: the vocabulary cannot be read without trusting it.
        """
        super().initialize(context)
        path = os.path.join(context.system_properties["model_dir"], VOCABULARY)
        if not os.path.exists(path):
            return
        try:
            self.source_vocab = torch.load(path, weights_only=not context.trusts_pickles)
        except Exception as error:
            if context.trusts_pickles:
                raise
            raise ValueError(
                f"{VOCABULARY} is no dict from words to numbers; another pickle is opened with "
                "`options = { trust = true }`, since it can run any code"
            ) from error

    @staticmethod
    def text_of(row: Any) -> str:
        """Return the text of a row.

        Raises:
            PredictionException: 400: it has none.
        """
        found = row.get("data", row.get("body"))
        try:
            return found.decode() if isinstance(found, bytes | bytearray) else str(found)
        except UnicodeDecodeError:
            raise PredictionException("The text is not UTF-8.", 400) from None

    def _remove_html_tags(self, text: str) -> str:
        return _TAG.sub("", text)

    def _remove_puncutation(self, *args: Any, **kwargs: Any) -> list[str]:
        words = args[0] if not isinstance(args[0], str) else args[0].split()
        return [word for word in words if word not in string.punctuation]

    _remove_punctuation = _remove_puncutation

    def _tokenize(self, text: str) -> Any:
        return self.tokenizer(text)
