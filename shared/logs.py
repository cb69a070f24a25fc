"""Logging of every process, to stderr in one format."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(level: str, formatter: type[logging.Formatter] = logging.Formatter) -> None:
    """Send log records at ``level`` (debug, info, warning, error) and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
