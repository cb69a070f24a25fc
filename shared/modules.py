"""Where our packages are: at the top of a checkout, and inside ``headrace`` in what a wheel installs."""

from __future__ import annotations

from pathlib import Path

PREFIX = __name__.removesuffix("shared.modules")
"""What comes before the names of our packages; empty in a checkout."""

COMMAND = "headrace" if PREFIX else "python -m headrace"
"""What people type to run the command line."""

ROOT = Path(__file__).resolve().parents[1]
"""The folder that has our packages, and ``models.toml``."""


PHOTO = str(ROOT / "examples/photos/cat.jpg") if PREFIX else "examples/photos/cat.jpg"
"""A photograph to try: as seen from a checkout's top, or wherever the wheel was installed."""


def full_name(module: str) -> str:
    """Return the name under which ``module`` of ours is imported, and run with ``python -m``."""
    return PREFIX + module
