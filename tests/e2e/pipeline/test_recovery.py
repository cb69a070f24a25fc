"""A model whose only consumer has gone. What else dies, falls silent or fills up is in tests/fault."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, call, echo_models
from tests.helpers import eventually

wait_until = partial(eventually, limit_s=40.0)


@pytest.fixture
def stack(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    nobody_elses = f"{valkey_url.removesuffix('/0')}/9"  # other tests' models would make it ready
    with Stack(nobody_elses, echo_models(tmp_path, model_name), LEASE_MS="1000") as stack:
        yield stack


def test_without_a_consumer_there_is_a_clear_503(stack: Stack, model_name: str) -> None:
    stack.start_front_end(HOLD_WHILE_COLD="off")
    assert stack.predict(model_name, b"x").status == 404
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    assert consumer.terminate() == 0
    wait_until(lambda: call(f"{stack.url}/v1/models/{model_name}").body["workers"] == 0)
    answer = stack.predict(model_name, b"x")
    assert (answer.status, answer.body["error"]["code"]) == (503, "no_worker")
    assert int(answer.headers["retry-after"]) >= 1
    assert call(f"{stack.url}/readyz").status == 503
