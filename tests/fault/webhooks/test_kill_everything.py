"""Everything dies in the middle of webhooks: front end and consumer by SIGKILL, and the server too."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.later.client import Client
from tests.e2e.stack import Stack, echo_models
from tests.embedded import EmbeddedServer
from tests.helpers import eventually
from tests.receiver import Received, Receiver

SECRET = "whsec_" + "A" * 43 + "="
MODEL = "hook-survivor"
COUNT = 40

# In every run, a batch with a webhook goes through the same in tests/fault/bulk.
pytestmark = [pytest.mark.fault, pytest.mark.soak]


def test_each_request_is_announced_after_everything_was_killed(tmp_path: Path) -> None:
    """Some are delivered before, some are just being delivered, others have not run yet."""
    half, go_on = threading.Event(), threading.Event()

    def answer(received: Received) -> tuple[int, dict[str, str]]:
        if len(receiver.received) > COUNT // 2 and not go_on.is_set():
            half.set()
            go_on.wait(40)
        return 204, {}

    config = ServerConfig(tmp_path / "data", free_port(), appendonly="always", maxmemory_mb=64)
    settings = {"WEBHOOK_SECRETS": SECRET, "PRIVATE_NETWORKS": "127.0.0.1", "LEASE_MS": "1000"}
    with (
        EmbeddedServer(config) as server,
        Receiver(answer) as receiver,
        Stack(server.url, echo_models(tmp_path, MODEL), **settings) as stack,
    ):
        processes = [stack.start_front_end(), stack.start_consumer(MODEL)]
        stack.wait(MODEL)
        client = Client(stack)
        for number in range(COUNT):
            hooked = {"Headrace_Webhook": receiver.url()}
            assert client.ask(MODEL, b"1234", f"?id=kept-{number}", **hooked).status == 202
        assert half.wait(30)
        for process in processes:
            process.popen.kill()
        server.kill()
        go_on.set()
        server.start()
        stack.start_front_end()
        stack.start_consumer(MODEL)
        wanted = {f"kept-{number}" for number in range(COUNT)}
        eventually(lambda: {one.document["data"]["id"] for one in receiver.received} == wanted, limit_s=40)
        ids = {one.headers["webhook-id"]: one.body for one in receiver.received}
        assert len(ids) == COUNT  # what came again came under its id
        for one in receiver.received:
            assert ids[one.headers["webhook-id"]] == one.body
            assert Webhook(SECRET).verify(one.body.decode(), dict(one.headers))
