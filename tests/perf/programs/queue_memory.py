"""[I/O] What a request takes of Redis's memory while it waits, and its reply afterwards.

`python -m tests.perf.programs.queue_memory` starts a server of its own, as `headrace up` does, puts requests of several
sizes into a lane, answers them, and prints the table of docs/sizing.md. All figures are differences of `used_memory`,
divided by the number of requests: what counts towards `maxmemory`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import keys
from shared.redis import functions, library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from shared.wire.messages import ModelTag, Prediction, Reply, Request, Timing, encode_reply, encode_request
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

MODEL = "echo"
WORK = keys.work(MODEL, keys.DEFAULT_LANE)
GROUP = "workers"
BODIES = {
    "100 bytes": 100,
    "1 KiB": 1 << 10,
    "16 KiB": 16 << 10,
    "a tensor of 224 x 224 x 3 bytes": 150_528,
    "1 MiB": 1 << 20,
}
MOST_BYTES = 256 << 20
MOST_REQUESTS = 4_000
CHUNK = 50
TTL_MS = 600_000
EXPIRY_MS = TTL_MS + 60_000


@dataclass(frozen=True, slots=True)
class Answer:
    """One request that ends (`functions.Completion`)."""

    entry_id: bytes
    request_id: str
    reply: bytes
    reply_to: str = ""
    expiry_ms: int = EXPIRY_MS


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes per request: waiting, waiting with an id of the client's own, and its reply once it is answered."""

    body: str
    waiting: float
    with_own_id: float
    reply: float


def used(client: Any) -> int:
    """What counts towards `maxmemory`, without the buffers of this program's own connection."""
    memory = client.info("memory")
    return int(memory["used_memory"]) - int(memory["mem_clients_normal"])


def empty_lane(client: Any) -> int:
    """Begin anew; what is used then."""
    client.execute_command("FLUSHALL", "SYNC")
    client.xgroup_create(WORK, GROUP, id="0", mkstream=True)
    eventually(lambda: client.info("memory")["lazyfree_pending_objects"] == 0)
    return used(client)


def fill(client: Any, size: int, count: int, check: str) -> None:
    """Put requests into the lane as a front end does."""
    for first in range(0, count, CHUNK):
        ids = [f"{number:024x}" for number in range(first, min(first + CHUNK, count))]
        requests = [
            (i, check, encode_request(Request(i, TTL_MS, "application/octet-stream", bytes(size)))) for i in ids
        ]
        answer = client.execute_command(*functions.admit(WORK, count, "front-end", "0-0", (), requests))
        refused = [status for status in answer[1:] if b"-" not in status]
        if refused:
            raise RuntimeError(f"The server took not all of them: {refused[0]!r}.")


def answer_all(client: Any, count: int) -> None:
    """Claim and answer what is in the lane, each with the five likeliest labels."""
    tag, timing = ModelTag("imagenet", "1", "fp32"), Timing(271, 2123, 1900, 17258, 4)
    labels = [Prediction(f"a label of some length {number}", number, 0.2) for number in range(5)]
    done = 0
    while done < count:
        [(_, rows)] = client.xreadgroup(GROUP, "worker", {WORK: ">"}, count=CHUNK)
        answers = []
        for entry, _fields in rows:
            name = f"{done:024x}"
            answers.append(Answer(entry, name, encode_reply(Reply(name, tag, timing, predictions=labels))))
            done += 1
        client.execute_command(*functions.commit(WORK, EXPIRY_MS, answers))


def measure(client: Any, body: str, size: int) -> Row:
    """One row of the table; a few requests go first, for what the server sets up once."""
    count = min(MOST_REQUESTS, MOST_BYTES // size)
    empty_lane(client)
    fill(client, size, CHUNK, functions.check(TTL_MS, EXPIRY_MS, "f" * 32))
    answer_all(client, CHUNK)
    figures = []
    for check in (functions.NOT_ASKED_BEFORE, functions.check(TTL_MS, EXPIRY_MS, "f" * 32)):
        before = empty_lane(client)
        fill(client, size, count, check)
        figures.append((used(client) - before) / count)
    before = empty_lane(client)
    fill(client, size, count, functions.NOT_ASKED_BEFORE)
    answer_all(client, count)
    return Row(body, figures[0], figures[1], (used(client) - before) / count)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        config = ServerConfig(Path(folder), free_port(), appendonly="no", maxmemory_mb=1024)
        with EmbeddedServer(config) as server, connect(server.url) as client:
            library.load(client)
            print("| body | waiting | waiting, with an id of the client's own | its reply, five labels |")
            print("| --- | --- | --- | --- |")
            for body, size in BODIES.items():
                row = measure(client, body, size)
                cells = (f"{bytes_:,.0f}" for bytes_ in (row.waiting, row.with_own_id, row.reply))
                print(f"| {body} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
