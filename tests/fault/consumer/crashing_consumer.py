"""A consumer whose reading stage ends with ``sys.exit(0)`` once a request with the body ``crash`` is there."""

from __future__ import annotations

import sys
from typing import Any

from consumer.__main__ import main
from consumer.pipeline.fetcher import Fetcher

_accept = Fetcher.accept


def accept(fetcher: Fetcher, entries: Any, **options: Any) -> None:
    """As before, unless one says so."""
    if any(b"crash" in (entry.message or b"") for entry in entries):
        sys.exit(0)
    _accept(fetcher, entries, **options)


if __name__ == "__main__":
    Fetcher.accept = accept  # type: ignore[method-assign, assignment]
    main()
