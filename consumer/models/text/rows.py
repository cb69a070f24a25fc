"""From a request to rows of tokens. Any of it may come from a stranger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from shared.wire.outcomes import CONTEXT_LENGTH_EXCEEDED, RequestError, invalid

from .folder import RERANKING, TOKENIZER, OpenFolder

MOST_TEXT_BYTES = 256 * 1024
"""Of one text: tokenising takes its time whether or not the result is cut afterwards."""

MOST_REQUEST_BYTES = 4 * 1024 * 1024


class Row(NamedTuple):
    """One text as tokens: ``ids`` and ``types`` are int64, shape (tokens,); types only for pairs, else None."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64] | None = None


class RowMaker:
    """Makes rows of texts, of pairs of texts and of arrays of tokens; any thread may call it.

    Args:
        context: most tokens of a row.

    Raises:
        ValueError: the folder's tokenizer cannot be read.
    """

    def __init__(self, folder: OpenFolder, context: int) -> None:
        file = folder.path / TOKENIZER
        self._tokenizer, self._cutting = _opened(file), _opened(file)
        self._cutting.enable_truncation(
            context, strategy="only_second" if folder.task == RERANKING else "longest_first"
        )
        self.context, self._vocabulary, self._request_tokens = context, folder.vocabulary, folder.request_tokens

    def of_texts(self, texts: Sequence[str | tuple[str, str]], truncates: bool, field: str) -> list[Row]:
        """Tokenise texts, or pairs of them.

        Args:
            truncates: a text that is too long is cut instead of refused; of a pair, the second one is.
            field: path of the texts in the request.

        Raises:
            RequestError: ``CONTEXT_LENGTH_EXCEEDED``: a text is too long for the model; ``INVALID_INPUT``: one is too
                long for any, or all of them together are too many.
        """
        size = 0
        for index, text in enumerate(texts):
            length = sum(len(one.encode()) for one in (text if isinstance(text, tuple) else (text,)))
            size += length
            if length > MOST_TEXT_BYTES:
                raise invalid(f"A text may have {MOST_TEXT_BYTES} bytes, not {length}.", f"{field}[{index}]")
        if size > MOST_REQUEST_BYTES:
            raise invalid(f"The texts of a request may have {MOST_REQUEST_BYTES} bytes together, not {size}.", field)
        rows: list[Row] = []
        tokens = 0
        for index, text in enumerate(texts):
            encoded = self._encoded(text)
            if len(encoded.ids) > self.context:
                if not truncates:
                    raise too_long(len(encoded.ids), self.context, f"{field}[{index}]")
                encoded = self._cut(text, f"{field}[{index}]")
                if len(encoded.ids) > self.context:  # the special tokens alone have no room
                    raise too_long(len(encoded.ids), self.context, f"{field}[{index}]")
            row = _row(encoded, isinstance(text, tuple))
            tokens += len(row.ids)
            self._check_total(tokens, field)
            rows.append(row)
        return rows

    def of_tokens(self, arrays: Sequence[Sequence[Any]], truncates: bool, field: str) -> list[Row]:
        """Take arrays of token ids as they are; special tokens are the sender's.

        Raises:
            RequestError: ``CONTEXT_LENGTH_EXCEEDED``, or ``INVALID_INPUT``: an id is none of this tokenizer's, or there
                are none or too many.
        """
        rows, tokens = [], 0
        for index, array in enumerate(arrays):
            path = f"{field}[{index}]"
            if not array:
                raise invalid("An array of tokens must not be empty.", path)
            if len(array) > self.context:
                if not truncates:
                    raise too_long(len(array), self.context, path)
                array = array[: self.context]
            if any(type(token) is not int or not 0 <= token < self._vocabulary for token in array):
                raise invalid(f"A token is a whole number from 0 to {self._vocabulary - 1}.", path)
            tokens += len(array)
            self._check_total(tokens, field)
            rows.append(Row(np.array(array, dtype=np.int64)))
        return rows

    def _check_total(self, tokens: int, field: str) -> None:
        if tokens > self._request_tokens:
            raise invalid(
                f"The texts of a request may have {self._request_tokens} tokens together; send them in several "
                "requests.",
                field,
            )

    def _encoded(self, text: str | tuple[str, str]) -> Encoding:
        return self._tokenizer.encode(*text) if isinstance(text, tuple) else self._tokenizer.encode(text)

    def _cut(self, text: str | tuple[str, str], field: str) -> Encoding:
        """Tokenise so that it fits: the tokenizer knows which of its special tokens must stay."""
        try:
            return self._cutting.encode(*text) if isinstance(text, tuple) else self._cutting.encode(text)
        except Exception:  # tokenizers raises nothing narrower
            raise invalid(f"The query alone fills the context of {self.context} tokens; shorten it.", field) from None


def too_long(tokens: int, context: int, field: str) -> RequestError:
    """Make the error of a text that is longer than the model's context."""
    message = (
        f"The text has {tokens} tokens, and the context of this model is {context} tokens; shorten it, or send the "
        "parameter truncate: true to have it cut."
    )
    return RequestError(CONTEXT_LENGTH_EXCEEDED, message, field=field)


def _opened(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ValueError(f"{file} is not a tokenizer that can be read: {error}.") from None
    # The file may ask for both, as sentence-transformers saves them: every text would be 128 tokens long.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _row(encoded: Encoding, is_pair: bool) -> Row:
    ids = np.array(encoded.ids, dtype=np.int64)
    return Row(ids, np.array(encoded.type_ids, dtype=np.int64) if is_pair else None)
