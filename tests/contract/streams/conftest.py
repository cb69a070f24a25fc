"""A lane on each real server, with a worker that holds what waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.redis import library
from shared.redis.client import connect
from tests.contract.redis.test_functions import Server


@pytest.fixture
def server(redis_url: str, model_name: str) -> Iterator[Server]:
    client = connect(redis_url)
    library.load(client)
    made = Server(client, model_name)
    made.heartbeat()
    yield made
    found: Any = list(client.scan_iter(match=f"hr:{{{model_name}}}:*", count=1000))
    client.unlink(*found)
    client.close()
