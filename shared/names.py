"""The one rule for names that end up inside Redis keys."""

from __future__ import annotations

import re
import socket

NAME_PATTERN = r"[A-Za-z0-9_-]{1,64}"

_is_name = re.compile(NAME_PATTERN + r"\Z").match


def is_name(text: object) -> bool:
    """Say whether ``text`` may name a model, lane, worker, instance or request.

    A ``}`` or ``:`` inside a name would make its keys escape an ACL pattern, so nothing but letters, digits, ``_``
    and ``-`` is allowed.
    """
    return isinstance(text, str) and _is_name(text) is not None


def check_name(text: str, what: str) -> str:
    """Return ``text`` unchanged.

    Raises:
        ValueError: ``text`` is not a valid name; the sentence starts with ``what``.
    """
    if not is_name(text):
        raise ValueError(f"{what} must be 1 to 64 letters, digits, '_' or '-', not {text[:80]!r}.")
    return text


def host_name() -> str:
    """Return this host's name as part of a name in Redis [I/O]."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40] or "host"
