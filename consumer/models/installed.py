"""Packages that only some families need: which are missing, and the command that installs them."""

from __future__ import annotations

import importlib.util

TEXT = ("text", ("tokenizers", "transformers"))
"""The dependency group of texts and language models, and what of it a consumer imports."""


def require(group: str, modules: tuple[str, ...]) -> None:
    """Check that the modules of a dependency group are there, without importing them.

    Raises:
        ValueError: some are not; one sentence with the command.
    """
    missing = [name for name in modules if not is_there(name)]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} not installed: run pip install -c constraints.txt --group {group} (without a "
            f"checkout: pip install 'headrace[{group}]'), or build the image with EXTRA_GROUP={group}."
        )


def is_there(name: str) -> bool:
    """Say whether a module could be imported, without doing so."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
