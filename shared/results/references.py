"""What messages say of objects in the result store: the member ``at_store`` of requests and of replies. Pure.

Where a lane's objects lie follows from the lane, which the reader knows, and not from the text: whoever writes a text
can name objects of its own lane only (``docs/protocol.md``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from shared.names import NAME_PATTERN

LEAST_REPLY_BYTES: Final = 16 * 1024
"""Replies of later requests from this size on go to the store."""

LEAST_KEEP_MS: Final = 3_600_000
"""Replies that are kept for longer go there, too, however small they are."""

SLACK_S: Final = 60.0
"""How much longer an object stays than what refers to it."""

BODIES: Final = "bodies"
REPLIES: Final = "results"

_REPLY = re.compile(rf"([0-9a-f]{{2}}/{NAME_PATTERN}\.[0-9a-f]{{8}}):([0-9]{{1,15}})\Z")
_BODY = re.compile(r"([0-9a-f]{16})/([0-9a-f]{32}):([0-9]{1,6}):([0-9]{1,15}):([0-9a-f]{64})\Z")


class StoredReply(NamedTuple):
    """A whole encoded reply.

    Attributes:
        name: its place among the replies of its model and lane.
        size_bytes: what it takes.
    """

    name: str
    size_bytes: int

    def text(self) -> str:
        """Return it as the member ``at_store`` of a reply."""
        return f"{self.name}:{self.size_bytes}"

    def key(self, model: str, lane: str) -> str:
        """Return its key in the store."""
        return f"{REPLIES}/{model}/{lane}/{self.name}"


def stored_reply(request_id: str, token: str, size_bytes: int) -> StoredReply:
    """Name a reply.

    Args:
        token: eight hexadecimal digits, others each time: what answers an id twice must not replace the first answer.
    """
    # Among 256 folders: a folder with a million files is slow to look through.
    shard = hashlib.blake2b(request_id.encode(), digest_size=1).hexdigest()
    return StoredReply(f"{shard}/{request_id}.{token}", size_bytes)


def parse_reply(text: str) -> StoredReply | None:
    """Read the member ``at_store`` of a reply; None when it is none."""
    match = _REPLY.match(text)
    return None if match is None else StoredReply(match[1], int(match[2]))


class StoredBody(NamedTuple):
    """A body in parts.

    Attributes:
        owner: 16 hexadecimal digits that stand for the API key.
        id: 32 random hexadecimal digits: to name a body is to have been given it.
        parts: how many objects it has; they are numbered from 1.
        size_bytes: of all of them.
        sha256: of the whole body, in hexadecimal: a reader finds out if it has changed.
    """

    owner: str
    id: str
    parts: int
    size_bytes: int
    sha256: str

    def text(self) -> str:
        """Return it as the member ``at_store`` of a request."""
        return f"{self.owner}/{self.id}:{self.parts}:{self.size_bytes}:{self.sha256}"

    def keys(self, lane: str) -> Iterator[str]:
        """Go through the keys of the parts in order."""
        prefix = body_prefix(lane, self.owner, self.id)
        return (part_key(prefix, number) for number in range(1, self.parts + 1))


def parse_body(text: str) -> StoredBody | None:
    """Read the member ``at_store`` of a request; None when it is none."""
    match = _BODY.match(text)
    return None if match is None else StoredBody(match[1], match[2], int(match[3]), int(match[4]), match[5])


def owner_of(key_digest: bytes) -> str:
    """Return what stands for an API key; empty bytes where no key is required."""
    return hashlib.blake2b(key_digest, digest_size=8, person=b"headrace-body").hexdigest()


def body_prefix(lane: str, owner: str, body_id: str) -> str:
    """Return the folder of a body."""
    return f"{BODIES}/{lane}/{owner}/{body_id}"


def part_key(prefix: str, number: int) -> str:
    """Return the key of a part."""
    return f"{prefix}/part-{number:06}"
