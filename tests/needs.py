"""What a test needs of the machine: it is skipped where that is missing, but not where it is known to be there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def is_missing(what: str) -> NoReturn:
    """Skip a test for want of a tool; in the project's workflows, which install them all, fail instead."""
    if os.environ.get("GITHUB_ACTIONS"):
        pytest.fail(f"{what} The workflow is to see to it that this test runs.")
    pytest.skip(what)
