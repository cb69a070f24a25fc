"""JSON of a given schema: which tokens may come next, by the library llguidance. Any thread may make constraints."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared.wire.outcomes import MODEL_ERROR, RequestError, invalid

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MOST_BYTES = 64 << 10
FIELD = "schema"
_WHITESPACE = r"[ \n]{0,8}"
"""Between parts of the JSON: bounded, because small models like to go on with blanks."""


class SchemaConstraint:
    """See :class:`consumer.generation.engine.Constraint`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self) -> bytes:
        """See the interface."""
        mask: bytes = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise self._failure()
        return mask

    def advance(self, token: int) -> None:
        """See the interface."""
        if not self._matcher.consume_token(token):
            raise self._failure()

    def _failure(self) -> RequestError:
        return RequestError(MODEL_ERROR, f"The schema cannot be followed any further: {_line(self._matcher)}")


class Schemas:
    """Makes constraints for one model.

    Args:
        definition: returns the tokeniser's JSON; called when the first schema comes, since that takes a second.
        vocabulary: tokens of the model or of the tokeniser, whichever has more.
        end: the token that ends a text.
    """

    def __init__(self, definition: Callable[[], str], vocabulary: int, end: int) -> None:
        self._definition, self._vocabulary, self._end = definition, vocabulary, end
        self._lock = threading.Lock()
        self._tokeniser: LLTokenizer | None = None

    def constraint(self, schema: object) -> SchemaConstraint:
        """Make the constraint of one sequence.

        Args:
            schema: a JSON Schema, as a map; ``true`` and ``{}`` allow any JSON.

        Raises:
            RequestError: it is none, is too large, or has what cannot be constrained; the sentence says what.
        """
        if not isinstance(schema, dict | bool):
            raise invalid(f"{FIELD} must be a JSON Schema, a map.", FIELD)
        try:
            text = json.dumps(schema)
        except (TypeError, ValueError, RecursionError):
            raise invalid(f"{FIELD} must be a JSON Schema, a map of JSON values.", FIELD) from None
        if len(text) > MOST_BYTES:
            raise invalid(f"{FIELD} must have at most {MOST_BYTES} bytes as JSON, not {len(text)}.", FIELD)
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": _WHITESPACE})
        except ValueError as error:
            raise invalid(f"{FIELD} cannot be used: {str(error)[:300]}.", FIELD) from None
        matcher = LLMatcher(self._tokens(), grammar, log_level=0)
        if matcher.is_error():
            raise invalid(f"{FIELD} cannot be used: {_line(matcher)}", FIELD)
        return SchemaConstraint(matcher)

    def _tokens(self) -> LLTokenizer:
        from llguidance import LLTokenizer

        with self._lock:
            if self._tokeniser is None:
                self._tokeniser = LLTokenizer(self._definition(), n_vocab=self._vocabulary, eos_token=self._end)
            return self._tokeniser


def _line(matcher: Any) -> str:
    return " ".join(str(matcher.get_error()).split())[:300].rstrip(".") + "."
