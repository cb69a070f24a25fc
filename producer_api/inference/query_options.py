"""The options of a request whose body is no document: they are in the query string."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from producer_api.parsing.schemas import MAX_TOP_K, Parameters
from shared.names import is_name
from shared.wire.outcomes import invalid, malformed

ID_RULE = "An id is 1 to 64 letters, digits, '_' or '-'."


def query_options(query: bytes) -> Parameters:
    """Read top_k, timeout_ms, id, truncate and explain from a query string.

    Raises:
        RequestError: ``MALFORMED`` for a parameter that is unknown, repeated or cannot be parsed, ``INVALID_INPUT``
            for a value out of range.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16
        )
    except ValueError:
        raise malformed("The query string cannot be parsed.", "query") from None
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name not in _READERS:
            known = "top_k, timeout_ms, id, truncate and explain"
            raise malformed(f"There is no query parameter {name[:80]!r}; there are {known}.", name[:80])
        if name in values:
            raise malformed(f"The query parameter {name} is there twice.", name)
        values[name] = _READERS[name](name, text)
    if "id" in values and not is_name(values["id"]):
        raise invalid(ID_RULE, "id")
    if not 1 <= values.get("top_k", 1) <= MAX_TOP_K:
        raise invalid(f"top_k must lie between 1 and {MAX_TOP_K}.", "top_k")
    if values.get("timeout_ms", 1) < 1:
        raise invalid("timeout_ms must be at least 1.", "timeout_ms")
    return Parameters(**values)


def _whole_number(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise invalid(f"{name} must be a whole number.", name)
    return int(text)


def _truth(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise invalid(f"{name} must be true or false.", name)
    return text == "true"


_READERS: dict[str, Callable[[str, str], Any]] = {
    "top_k": _whole_number,
    "timeout_ms": _whole_number,
    "id": lambda _, text: text,
    "truncate": _truth,
    "explain": _truth,
}
