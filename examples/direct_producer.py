"""A direct producer: it speaks to the queue itself, without the front end. It needs only redis and msgpack.

    .venv/bin/python examples/direct_producer.py examples/photos/cat.jpg
    .venv/bin/python examples/direct_producer.py examples/photos/cat.jpg --count 2000

The first sends one picture and prints its label; the second sends thousands and prints how many were answered per
second. ``HEADRACE_REDIS_URL`` says where the queue is; docs/protocol.md says what all of this means.
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

TTL_MS = 30_000
IN_FLIGHT = 250  # well below the lane's limit, which a plain XADD does not look at


def send_one(client: redis.Redis, model: str, message: dict[str, Any]) -> None:
    """The simple way: add the request, wait on its reply key. BLMOVE from a key to itself waits without taking."""
    request_id = secrets.token_hex(8)
    key = f"hr:{{{model}}}:r:default:{request_id}"
    packed: Any = msgpack.packb({**message, "id": request_id})
    if client.xadd(f"hr:{{{model}}}:q:default", {"m": packed}, nomkstream=True) is None:
        sys.exit(f"No consumer has served {model} here yet.")
    reply: Any = client.blmove(key, key, TTL_MS // 1000 + 1, "LEFT", "LEFT")
    if reply is None:
        sys.exit(f"No reply came in time; whether it ran is unknown. LINDEX {key} 0 may still tell.")
    answer = msgpack.unpackb(reply)
    if not answer["ok"]:
        sys.exit(f"{answer['error']['code']}: {answer['error']['message']}")
    for guess in answer.get("predictions", ()):
        print(f"{guess['score']:6.1%}  {guess['label']}")
    for output in answer.get("outputs", ()):
        print(output["name"], output["datatype"], output["shape"])


def send_many(client: redis.Redis, model: str, message: dict[str, Any], count: int) -> None:
    """The fast way: add many requests at once, and read all replies from a reply stream of one's own."""
    me = f"producer-{secrets.token_hex(8)}"
    work, stream, reply_key = (
        f"hr:{{{model}}}:q:default",
        f"hr:{{{model}}}:rs:default:{me}",
        f"hr:{{{model}}}:r:default:",
    )
    waiting: set[str] = set()
    sent, answered, failed, cursor = 0, 0, 0, b"0-0"
    begun_s = latest_s = time.monotonic()
    while sent < count or waiting:
        ids = [f"{me}-{number}" for number in range(sent, min(count, sent + IN_FLIGHT - len(waiting)))]
        with client.pipeline(transaction=False) as pipe:
            for request_id in ids:
                packed: Any = msgpack.packb({**message, "id": request_id, "rt": me})
                pipe.xadd(work, {"m": packed}, nomkstream=True)
            if None in pipe.execute():
                sys.exit(f"No consumer has served {model} here yet.")
        sent += len(ids)
        waiting.update(ids)

        hints: Any = client.xread({stream: cursor}, count=1000, block=1000)
        entries = hints[0][1] if hints else []
        cursor = entries[-1][0] if entries else cursor
        found = {fields[b"id"].decode(): fields.get(b"reply") for _, fields in entries}
        # A hint without a reply, or a second without a hint: the reply key is the truth.
        look = [request_id for request_id in (found or waiting) if found.get(request_id) is None]
        with client.pipeline(transaction=False) as pipe:
            for request_id in look:
                pipe.lindex(reply_key + request_id, 0)
            found.update(zip(look, pipe.execute(), strict=True))
        replies = {request_id: reply for request_id, reply in found.items() if reply and request_id in waiting}
        if replies:  # reply keys expire by themselves; deleting them early keeps Redis small
            client.unlink(*(reply_key + request_id for request_id in replies))
            latest_s = time.monotonic()
        elif time.monotonic() - latest_s > TTL_MS / 1000 + 1:
            break
        good = sum(msgpack.unpackb(reply)["ok"] for reply in replies.values())
        answered, failed = answered + good, failed + len(replies) - good
        waiting.difference_update(replies)
    took_s = time.monotonic() - begun_s
    print(f"{answered} answered, {failed} failed, {len(waiting)} unknown, {answered / took_s:.0f} items/s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Send pictures straight to the queue.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="imagenet")
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    url = os.environ.get("HEADRACE_REDIS_URL", "redis://127.0.0.1:6399")
    # No automatic retry: it would repeat an XADD whose answer was lost. The timeout must exceed the longest wait.
    client = redis.Redis.from_url(url, socket_timeout=TTL_MS / 1000 + 5, retry=Retry(NoBackoff(), 0))
    content_type = mimetypes.guess_type(options.photo.name)[0] or "application/octet-stream"
    try:
        message = {"v": 1, "ttl_ms": TTL_MS, "ct": content_type, "body": options.photo.read_bytes()}
        if options.count == 1:
            send_one(client, options.model, message)
        else:
            send_many(client, options.model, message, options.count)
    except redis.RedisError as error:
        sys.exit(f"{url} does not answer as it should: {error}")
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
