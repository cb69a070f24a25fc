"""What a request's headers say about being answered later: ``Prefer`` (RFC 7240) and ``Headrace-Keep``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from shared.limits import LONGEST_MS
from shared.wire.outcomes import malformed

PREFER, KEEP, DEADLINE = b"prefer", b"headrace-keep", b"headrace-deadline"
WEBHOOK, EVENTS, INCLUDE = b"headrace-webhook", b"headrace-webhook-events", b"headrace-webhook-include"
LONGEST_WAIT_S = 60
"""A longer ``wait`` is cut to this; ``Preference-Applied`` says so."""

MOST_BYTES = 1024
"""A longer ``Prefer`` header is refused, whatever it says."""

_UNITS_MS = {"": 1000, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")
DURATION_PATTERN = (
    "^(?:(?:[1-9][0-9]{0,4}|[1-5][0-9]{5}|60[0-3][0-9]{3}|604[0-7][0-9]{2}|604800)s?"
    "|(?:[1-9][0-9]{0,3}|100[0-7][0-9]|10080)m|(?:[1-9][0-9]?|1[0-5][0-9]|16[0-8])h|[1-7]d)$"
)
"""What :func:`duration_ms` takes, for the OpenAPI document: from a second to seven days in each unit."""

_PREFERENCE = re.compile(
    r"""[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)
        [ \t]*(?:=[ \t]*(?P<value>[!#$%&'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*"))?
        [ \t]*(?P<parameters>(?:;[^,"]*(?:"(?:[^"\\]|\\.)*"[^,"]*)*)?)(?:,|$)""",
    re.VERBOSE,
)


class Later(Struct, frozen=True):
    """A request that is answered later.

    Attributes:
        wait_s: whole seconds for which the client waits before it is put off; 0 for not at all.
        keep_ms: how long its result is kept; None leaves that to the settings.
        applied: value of ``Preference-Applied``.
        webhook: whom to notify, of what, and what to include: the headers as they came, None for nobody.
    """

    wait_s: int = 0
    keep_ms: int | None = None
    applied: bytes = b"respond-async"
    webhook: tuple[str, str | None, str | None] | None = None


def later_of(prefer: bytes, headers: Mapping[bytes, bytes]) -> Later | None:
    """Return what the headers ask for; None if the answer is wanted at once.

    Preferences that are not known here are ignored (RFC 7240, section 2). Without ``respond-async`` the other headers
    have no effect.

    Args:
        prefer: value of the header.
        headers: all of them, names in lower case.

    Raises:
        RequestError: ``MALFORMED``, with the name of the header.
    """
    keep = headers.get(KEEP)
    keep_ms = None if keep is None else duration_ms(keep)  # what makes no sense is no oversight that helps anybody
    if b"respond-async" not in prefer.lower():
        return None
    found = _preferences(prefer)
    if "respond-async" not in found:
        return None
    if found["respond-async"]:
        raise malformed("The preference respond-async takes no value.", "Prefer")
    wait_s = _wait_s(found["wait"]) if "wait" in found else 0
    applied = b"respond-async, wait=%d" % wait_s if wait_s else b"respond-async"
    return Later(wait_s, keep_ms, applied, _webhook(headers))


def _webhook(headers: Mapping[bytes, bytes]) -> tuple[str, str | None, str | None] | None:
    url = _text(headers, WEBHOOK)
    return None if url is None else (url, _text(headers, EVENTS), _text(headers, INCLUDE))


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("utf-8", "replace")


@lru_cache(maxsize=64)
def _preferences(header: bytes) -> Mapping[str, str]:
    """Return preferences by their names in lower case; of those named twice the first counts."""
    text, at = header.decode("latin-1"), 0
    if len(text) > MOST_BYTES:
        raise malformed(f"The header may have at most {MOST_BYTES} bytes.", "Prefer")
    found: dict[str, str] = {}
    while at < len(text):
        if text[at] in " \t,":  # a list may have empty elements
            at += 1
            continue
        match = _PREFERENCE.match(text, at)
        if match is None:
            raise malformed("The header is no list of preferences, such as: respond-async, wait=10.", "Prefer")
        value = match["value"] or ""
        found.setdefault(match["name"].lower(), re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] == '"' else value)
        at = match.end()
    return found


def _wait_s(value: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", value):
        raise malformed("The preference wait is a whole number of seconds.", "Prefer")
    return min(int(value), LONGEST_WAIT_S)


def duration_ms(value: bytes) -> int:
    """Return a duration such as 90, 90s, 15m, 12h or 7d in milliseconds.

    Raises:
        RequestError: ``MALFORMED``: it is none, or not from a second to seven days.
    """
    duration = _duration_ms(value)
    if duration is None:
        raise malformed("A result is kept for seconds, or 90s, 15m, 12h, 7d: from 1s to 7d.", "Headrace-Keep")
    return duration


def deadline_ms(value: bytes) -> int:
    """Return a deadline, a duration such as 90s, 15m, 12h or 7d from now on, in milliseconds.

    Raises:
        RequestError: ``MALFORMED``: it is none, or not from a second to seven days.
    """
    duration = _duration_ms(value)
    if duration is None:
        message = "A deadline is a time from now on, in seconds or such as 90s, 15m, 2h, 1d: from 1s to 7d."
        raise malformed(message, "Headrace-Deadline")
    return duration


def _duration_ms(value: bytes) -> int | None:
    match = _DURATION.fullmatch(value.decode("latin-1").strip())
    duration = 0 if match is None else int(match[1]) * _UNITS_MS[match[2]]
    return duration if 1000 <= duration <= LONGEST_MS else None
