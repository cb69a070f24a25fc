"""[I/O] A direct producer that sends at a rate, whatever comes back.

`python -m tests.perf.programs.timed '{"url": …}'` prints a line of JSON.

Arrivals are independent of one another (Poisson, from a seed). A latency is the time from when a request was to be sent
until its answer was read, so a late producer makes the figures worse, never better.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Any

import msgspec

from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, encode_request

QUIET_S = 20.0
TTL_MS = 60_000
_OK = b"\xa2ok\xc3"


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send: the file `body` to `model`, `rate_per_s` for `seconds`; `warm_up_s` before are not measured."""

    url: str
    model: str
    body: str
    rate_per_s: float
    seconds: float
    content_type: str = "application/octet-stream"
    warm_up_s: float = 1.0
    lane: str = keys.DEFAULT_LANE
    seed: int = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies of all measured requests in ms, in the order of sending, and how many were not answered well."""

    latencies_ms: list[float]
    failed: int


class Sender:
    """Sends on this thread; another one reads the answers."""

    def __init__(self, job: Job, body: bytes) -> None:
        self._job, self._body = job, body
        self._me = f"timed-{time.time_ns():x}"
        self._due_s: dict[str, float] = {}
        self._done_ms: dict[str, float] = {}
        self._failed = 0
        self._all_sent = threading.Event()

    def run(self) -> Outcome:
        """Send everything and wait for the answers."""
        job = self._job
        reader = threading.Thread(target=self._read)
        reader.start()
        rng, client = random.Random(job.seed), connect(job.url)
        work = keys.work(job.model, job.lane)
        begun_s = due_s = time.perf_counter()
        number = 0
        while (due_s := due_s + rng.expovariate(job.rate_per_s)) < begun_s + job.warm_up_s + job.seconds:
            time.sleep(max(0.0, due_s - time.perf_counter()))
            name = f"{self._me}-{number}"
            number += 1
            self._due_s[name] = due_s
            request = Request(name, TTL_MS, job.content_type, self._body, reply_to=self._me)
            client.execute_command("XADD", work, "NOMKSTREAM", "*", "m", encode_request(request))
        self._all_sent.set()
        reader.join()
        client.close()
        measured = [name for name, at_s in self._due_s.items() if at_s >= begun_s + job.warm_up_s]
        missing = [name for name in measured if name not in self._done_ms]
        return Outcome(
            latencies_ms=[self._done_ms[name] for name in measured if name in self._done_ms],
            failed=self._failed + len(missing),
        )

    def _read(self) -> None:
        client = connect(self._job.url)
        stream, cursor = keys.reply_stream(self._job.model, self._job.lane, self._me), "0-0"
        quiet_s = 0.0
        while quiet_s < QUIET_S and not (self._all_sent.is_set() and len(self._done_ms) >= len(self._due_s)):
            found: Any = client.xread({stream: cursor}, count=1000, block=500)
            now_s = time.perf_counter()
            quiet_s = 0.0 if found else quiet_s + 0.5
            for _, fields in found[0][1] if found else ():
                request_id, reply = fields[b"id"].decode(), fields.get(b"reply")
                self._failed += reply is None or _OK not in reply
                self._done_ms[request_id] = (now_s - self._due_s[request_id]) * 1000
            cursor = found[0][1][-1][0].decode() if found else cursor
        client.unlink(stream)
        client.close()


def main() -> None:
    """Read the job from the command line, and print what became of it."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    with open(job.body, "rb") as file:
        outcome = Sender(job, file.read()).run()
    print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    main()
