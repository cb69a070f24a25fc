"""From tokens to text, as they come: whole characters only. Pure.

A token can be a part of a character, and what a token says can depend on those before it (a space at the beginning).
So a window of the last tokens is decoded again with each new one, and only what follows the text already given is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

HALF = "\N{REPLACEMENT CHARACTER}"
WINDOW = 24
CONTEXT = 8
"""Tokens that stay in the window when it is cut: more than the four bytes of a character."""

Decode = Callable[[Sequence[int]], str]


class Detokeniser:
    """Turns one sequence of tokens into text.

    Args:
        decode: the text of tokens. Bytes that are no character are U+FFFD, as few as UTF-8 decoders make.
    """

    __slots__ = ("_decode", "_given", "_window")

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._given = 0  # characters of the window's text that were returned

    def push(self, token: int) -> str:
        """Take a token; return the text that is complete now, often none.

        The texts together are ``decode`` of all tokens, but for what :meth:`flush` still has.
        """
        self._window.append(token)
        text = self._decode(self._window)
        # Bytes that may become a character are the last thing in the text; what is before them is decided.
        end = len(text) - text.endswith(HALF)
        new, self._given = text[self._given : end], max(self._given, end)
        if len(self._window) >= WINDOW:
            self._cut()
        return new

    def flush(self) -> str:
        """Return the incomplete character at the end as U+FFFD, if there is one."""
        text = self._decode(self._window)
        new, self._given = text[self._given :], len(text)
        return new

    def _cut(self) -> None:
        """Forget what no later token can change, unless what is held back would go with it."""
        held = len(self._decode(self._window)) - self._given
        kept = self._window[-CONTEXT:]
        text = self._decode(kept)
        if held == 0 or text.endswith(HALF):
            self._window, self._given = kept, len(text) - held
