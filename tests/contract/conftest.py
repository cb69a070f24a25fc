"""What the contract tests run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.lanes import Lane, MemoryLane, RedisLane


@pytest.fixture(params=["memory", "valkey", "redis7"])
def lane(request: pytest.FixtureRequest, model_name: str) -> Iterator[Lane]:
    """The lane ``default``, in memory, and on each real server. Modules that need a real one make it themselves."""
    made: Lane
    if request.param == "memory":
        made = MemoryLane(model_name)
    else:
        made = RedisLane(model_name, request.getfixturevalue(f"{request.param}_url"))
    yield made
    made.close()
