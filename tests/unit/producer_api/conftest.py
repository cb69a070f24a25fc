"""Fixtures of the front end's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.producer_api.asgi import Api


@pytest.fixture
def api() -> Iterator[Api]:
    """An application with the models echo and imagenet."""
    with Api() as started:
        yield started
