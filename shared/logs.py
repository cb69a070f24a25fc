"""Logging of every process: one line per event on stderr."""

from __future__ import annotations

import logging
import sys


def configure(level: str) -> None:
    """Send log records at ``level`` (debug, info, warning, error) and above to stderr."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
