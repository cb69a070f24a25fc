"""Texts to tokens and back, for one model. Any thread may call it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from shared.wire.outcomes import MODEL_ERROR, UNSUPPORTED, RequestError, invalid

from .chat import ChatTemplate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OPEN, _CLOSE = "\U000f0000", "\U000f0001"
"""Private characters around what looks like a special token in a message. Nothing else uses them."""

GivenT = TypeVar("GivenT")


class Tokeniser:
    """A tokeniser of the library ``tokenizers`` with a chat template.

    Args:
        tokenizer: it is changed: nothing is cut off or filled up.
        ends: tokens with which the model ends a text.
        template: makes a text of messages, if the model is one that chats.
    """

    def __init__(self, tokenizer: Tokenizer, ends: frozenset[int], template: ChatTemplate | None) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer, self._template, self.ends = tokenizer, template, ends
        tokens = tokenizer.get_added_tokens_decoder().values()
        special = sorted((str(token.content) for token in tokens if token.special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None
        self._plain: Tokenizer | None = None  # the same one, for which special tokens are ordinary text
        self._lock = threading.Lock()

    @property
    def definition(self) -> str:
        """Its JSON, as the library has it."""
        return str(self._tokenizer.to_str())

    @property
    def size(self) -> int:
        """How many tokens it knows, special ones included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def chats(self) -> bool:
        """Whether it takes messages."""
        return self._template is not None

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that the model is to go on with.

        Raises:
            RequestError: it cannot be encoded.
        """
        check_unicode(text, "prompt")
        return tuple(_guarded(lambda: self._tokenizer.encode(text).ids))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Return the tokens of messages, up to where the model is to answer.

        What a message says never becomes a special token: nobody can end their message and begin one of another role.

        Args:
            messages: as :func:`consumer.generation.chat.read_messages` returns them.

        Raises:
            RequestError: the model does not chat, its template refuses them, or they cannot be encoded.
        """
        if self._template is None:
            raise RequestError(UNSUPPORTED, "This model takes no messages: it has no chat template.", field="messages")
        for number, message in enumerate(messages):
            check_unicode("".join(message.values()), f"messages[{number}]")
        marked = [{name: self._marked(value) for name, value in message.items()} for message in messages]
        pieces = re.split(f"{_OPEN}(.*?){_CLOSE}", self._template.render(marked), flags=re.DOTALL)
        tokens: list[int] = []
        for number, piece in enumerate(pieces):
            tokens += self._without_special(piece) if number % 2 else self._with_special(piece)
        return tuple(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens`` without special tokens.

        Raises:
            RequestError: the library failed.
        """
        return _guarded(lambda: str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)))

    def _marked(self, text: str) -> str:
        text = text.replace(_OPEN, "").replace(_CLOSE, "")
        return text if self._special is None else self._special.sub(lambda found: f"{_OPEN}{found[0]}{_CLOSE}", text)

    def _with_special(self, text: str) -> list[int]:
        return _guarded(lambda: list(self._tokenizer.encode(text, add_special_tokens=False).ids)) if text else []

    def _without_special(self, text: str) -> list[int]:
        """Encode what looks like a special token as the characters that it is."""
        with self._lock:
            if self._plain is None:
                self._plain = type(self._tokenizer).from_str(self.definition)
                self._plain.encode_special_tokens = True
        plain = self._plain
        return _guarded(lambda: list(plain.encode(text, add_special_tokens=False).ids))


def check_unicode(text: str, field: str) -> None:
    """Refuse halves of surrogate pairs, which JSON can have and UTF-8 cannot.

    Raises:
        RequestError: there is one.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid("The text must be valid Unicode, without halves of surrogate pairs.", field) from None


def _guarded(call: Callable[[], GivenT]) -> GivenT:
    """Turn whatever the library raises into an error of this request; where its Rust panics, that is no Exception."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        why = f"The model's tokeniser failed for this input: {type(error).__name__}."
        raise RequestError(MODEL_ERROR, why) from error


def ends_of(*configs: Mapping[str, Any]) -> frozenset[int]:
    """Return the tokens that end a text, by the first of transformers' configurations that names any."""
    for config in configs:
        value = config.get("eos_token_id")
        found = frozenset(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int))
        if found:
            return found
    return frozenset()
