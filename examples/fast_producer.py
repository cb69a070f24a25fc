"""A direct producer that sends thousands: many requests in one pipeline, all replies from one stream of its own.

    .venv/bin/python examples/fast_producer.py examples/photos/cat.jpg --count 300

It needs only redis and msgpack. Read direct_producer.py first; docs/protocol.md calls this the fast tier.
"""

from __future__ import annotations

import argparse
import mimetypes
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TTL_MS = 30_000  # each must begin to run by then; "keep_ms" in a message would say how long its reply stays
IN_FLIGHT = 250  # well below the lane's limit, which a plain XADD does not look at


class FastProducer:
    """Sends requests of one model, and keeps account of them by id."""

    def __init__(self, client: redis.Redis, model: str) -> None:
        self.client, self.me = client, f"producer-{secrets.token_hex(8)}"
        self.work = f"hr:{{{model}}}:q:default"
        self.reply_key = f"hr:{{{model}}}:r:default:"
        self.stream, self.cursor = f"hr:{{{model}}}:rs:default:{self.me}", b"0-0"
        self.waiting: set[str] = set()
        self.sent = 0

    def send(self, message: dict[str, Any], count: int) -> None:
        """Add ``count`` copies of a request; ``rt`` names the stream that the replies are to come on."""
        ids = [f"{self.me}-{number}" for number in range(self.sent, self.sent + count)]
        with self.client.pipeline(transaction=False) as pipe:
            for request_id in ids:
                packed: Any = msgpack.packb({**message, "id": request_id, "rt": self.me})
                pipe.xadd(self.work, {"m": packed}, nomkstream=True)
            if None in pipe.execute():
                sys.exit("No consumer has served this model here yet.")
        self.sent += count
        self.waiting.update(ids)

    def receive(self) -> list[dict[str, Any]]:
        """Return the replies of the next second at the latest; reply keys of those received are deleted."""
        hints: Any = self.client.xread({self.stream: self.cursor}, count=1000, block=1000)
        entries = hints[0][1] if hints else []
        self.cursor = entries[-1][0] if entries else self.cursor
        found = {fields[b"id"].decode(): fields.get(b"reply") for _, fields in entries}
        # A hint without a reply, or a second without a hint: the reply key is the truth.
        look = [request_id for request_id in (found or self.waiting) if found.get(request_id) is None]
        with self.client.pipeline(transaction=False) as pipe:
            for request_id in look:
                pipe.lindex(self.reply_key + request_id, 0)
            found.update(zip(look, pipe.execute(), strict=True))
        read = ((request_id, msgpack.unpackb(reply)) for request_id, reply in found.items() if reply)
        replies = {request_id: reply for request_id, reply in read if reply["final"] and request_id in self.waiting}
        if replies:  # what is not final is a part of an answer, which is whole later
            self.client.unlink(*(self.reply_key + request_id for request_id in replies))
        self.waiting.difference_update(replies)
        return list(replies.values())


def run(producer: FastProducer, message: dict[str, Any], count: int) -> None:
    """Send ``count`` requests, a bounded number at a time, and print what became of them."""
    answered, failed = 0, 0
    begun_s = latest_s = time.monotonic()
    while producer.sent < count or producer.waiting:
        producer.send(message, min(count - producer.sent, IN_FLIGHT - len(producer.waiting)))
        replies = producer.receive()
        if replies:
            latest_s = time.monotonic()
        elif time.monotonic() - latest_s > TTL_MS / 1000 + 1:
            break
        good = sum(reply["ok"] for reply in replies)
        answered, failed = answered + good, failed + len(replies) - good
    took_s = time.monotonic() - begun_s
    print(f"{answered} answered, {failed} failed, {len(producer.waiting)} unknown, {answered / took_s:.0f} items/s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Send thousands of requests straight to the queue.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="imagenet")
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    url = os.environ.get("HEADRACE_REDIS_URL", "redis://127.0.0.1:6399")
    content_type = mimetypes.guess_type(options.photo.name)[0] or "application/octet-stream"
    try:
        client = redis.Redis.from_url(url, socket_timeout=TTL_MS / 1000 + 5, retry=Retry(NoBackoff(), 0))
        message = {"v": 1, "ttl_ms": TTL_MS, "ct": content_type, "body": options.photo.read_bytes()}
        run(FastProducer(client, options.model), message, options.count)
    except (redis.RedisError, OSError, ValueError, TypeError) as error:  # the latter two: of an address
        sys.exit(f"fast_producer.py: {error}")


if __name__ == "__main__":
    main()
