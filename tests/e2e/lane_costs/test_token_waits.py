"""A generation that could not begin in time is refused, by the tokens ahead of it and those that consumers get done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shared import keys
from shared.state.desired_state import ANSWER_TOKENS, FULL_TOKENS_PER_S, SLOTS
from shared.wire.generation import Generation
from tests.e2e.stack import Stack, call
from tests.fault.generating.asking import Producer, null_models
from tests.helpers import eventually


def test_a_deadline_that_cannot_be_met_is_refused_at_once(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=20, slots=2)) as stack:
        stack.start_consumer(model_name)
        stack.start_front_end()
        producer = Producer(valkey_url, model_name)
        # Two at a time, a token of each every 20 ms: 100 a second, and 20 of a prompt for each of them.
        for _ in range(60):
            producer.ask(Generation(prompt="x" * 20, max_tokens=100, temperature=0), ttl_ms=600_000)

        def known() -> bool:
            workers: Any = producer.client.zrange(keys.workers(model_name), 0, -1)
            said: Any = producer.client.hgetall(keys.worker(model_name, workers[0].decode()))
            return all(said[name.encode()] for name in (SLOTS, FULL_TOKENS_PER_S, ANSWER_TOKENS))

        eventually(known)
        body = json.dumps({"generate": {"prompt": "hi", "max_tokens": 1}, "parameters": {"timeout_ms": 2000}}).encode()

        def refused() -> str | None:
            try:
                url = f"{stack.url}/v1/models/{model_name}/predict"
                answer = call(url, body, "application/json", timeout_s=3.0)
            except TimeoutError:  # the front end had not heard of it, and let it in
                return None
            assert (answer.status, answer.body["error"]["code"]) == (429, "wait_too_long"), answer.body
            assert 1 < int(answer.headers["retry-after"]) <= 60
            return str(answer.body["error"]["message"])

        assert eventually(refused) == (
            "The requests ahead of this one need longer than the 2 s within which it must begin."
        )
        producer.close()
