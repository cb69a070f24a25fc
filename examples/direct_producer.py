"""A direct producer: it speaks to the queue itself, without the front end. It needs only redis and msgpack.

    .venv/bin/python examples/direct_producer.py examples/photos/cat.jpg

``HEADRACE_REDIS_URL`` says where the queue is, docs/protocol.md what all of this means; fast_producer.py sends many.
"""

from __future__ import annotations

import mimetypes
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import msgpack
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TTL_MS = 30_000


def main(photo: str, model: str = "imagenet") -> None:
    # No automatic retry: it would repeat an XADD whose answer was lost. The timeout must exceed the longest wait.
    url = os.environ.get("HEADRACE_REDIS_URL", "redis://127.0.0.1:6399")
    client = redis.Redis.from_url(url, socket_timeout=TTL_MS / 1000 + 5, retry=Retry(NoBackoff(), 0))
    request_id = secrets.token_hex(8)
    content_type = mimetypes.guess_type(photo)[0] or "application/octet-stream"
    message = {"v": 1, "id": request_id, "ttl_ms": TTL_MS, "ct": content_type, "body": Path(photo).read_bytes()}
    packed: Any = msgpack.packb(message)
    if client.xadd(f"hr:{{{model}}}:q:default", {"m": packed}, nomkstream=True) is None:
        sys.exit(f"No consumer has served {model} here yet.")
    key = f"hr:{{{model}}}:r:default:{request_id}"  # BLMOVE from a key to itself waits for the reply without taking it
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


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: direct_producer.py PHOTO [MODEL]")
    try:
        main(*sys.argv[1:])
    except (redis.RedisError, OSError) as error:
        sys.exit(f"direct_producer.py: {error}")
