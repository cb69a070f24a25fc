"""A direct producer: it speaks to the queue itself, without the front end. It needs only redis and msgpack.

    .venv/bin/python examples/direct_producer.py examples/photos/cat.jpg

``HEADRACE_REDIS_URL`` says where the queue is, docs/protocol.md what all of this means; fast_producer.py sends many.
"""

from __future__ import annotations

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

TTL_MS = 30_000  # it must begin to run by then; "keep_ms" in a message would say how long the reply stays


def main(photo: str, model: str = "imagenet") -> None:
    # No automatic retry: it would repeat an XADD whose answer was lost. The timeout must exceed the longest wait.
    url = os.environ.get("HEADRACE_REDIS_URL", "redis://127.0.0.1:6399")
    client = redis.Redis.from_url(url, socket_timeout=TTL_MS / 1000 + 5, retry=Retry(NoBackoff(), 0))
    request_id = secrets.token_hex(8)
    content_type = mimetypes.guess_type(photo)[0] or "application/octet-stream"
    message = {"v": 1, "id": request_id, "ttl_ms": TTL_MS, "ct": content_type, "body": Path(photo).read_bytes()}
    packed: Any = msgpack.packb({**message, "rt": request_id})  # the name that we wait under; one of our own each time
    if client.xadd(f"hr:{{{model}}}:q:default", {"m": packed}, nomkstream=True) is None:
        sys.exit(f"No consumer has served {model} here yet.")
    key = f"hr:{{{model}}}:r:default:{request_id}"
    answer = wait(client, f"hr:{{{model}}}:rs:default:{request_id}", key)
    if answer is None:
        sys.exit(f"No reply came in time; whether it ran is unknown. LINDEX {key} 0 may still tell.")
    if not answer["ok"]:
        sys.exit(f"{answer['error']['code']}: {answer['error']['message']}")
    for guess in answer.get("predictions", ()):
        print(f"{guess['score']:6.1%}  {guess['label']}")
    for output in answer.get("outputs", ()):
        print(output["name"], output["datatype"], output["shape"])


def wait(client: redis.Redis, stream: str, key: str) -> Any:
    """Wait for the hint that the request has ended, then look at its reply, which stays; None when time is up."""
    cursor, give_up_s = b"0-0", time.monotonic() + TTL_MS / 1000 + 1
    while (left_s := give_up_s - time.monotonic()) > 0:
        hints: Any = client.xread({stream: cursor}, block=round(left_s * 1000) + 1)
        for entry_id, hint in hints[0][1] if hints else ():
            cursor = entry_id
            reply: Any = hint.get(b"reply") or client.lindex(key, 0)
            answer = msgpack.unpackb(reply) if reply else {}
            if answer.get("final"):  # else it is a part of the answer, which is whole later
                return answer
    return msgpack.unpackb(client.lindex(key, 0) or b"\xc0")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: direct_producer.py PHOTO [MODEL]")
    try:
        main(*sys.argv[1:])
    except (redis.RedisError, OSError, ValueError, TypeError) as error:  # the latter two: of an address
        sys.exit(f"direct_producer.py: {error}")
