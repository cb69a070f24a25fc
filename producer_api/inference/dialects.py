"""The dialects: which codec answers which path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from shared.names import NAME_PATTERN

from .codec import Codec
from .native import NATIVE, PATH

Dialects = Mapping[str, Codec]

DIALECTS: Dialects = {PATH: NATIVE}
"""All POST requests that go through the queue, by templates of their paths. One without ``{model}`` is that of a
dialect whose bodies name the model."""

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")


def find(path: str, dialects: Dialects) -> tuple[str, Codec, Mapping[str, str]] | None:
    """Return the template of a path, its codec and what the path names; None when there is no such dialect.

    Names with other characters than a model's are not found: they are for the router, which knows percent-encoding.
    """
    for route, codec in dialects.items():
        if match := _pattern(route).fullmatch(path):
            return route, codec, match.groupdict()
    return None


@cache
def _pattern(route: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(rf"(?P<\1>{NAME_PATTERN})", re.escape(route)))
