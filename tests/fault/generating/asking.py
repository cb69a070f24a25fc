"""A direct producer of generations: it adds requests, and reads their records with XREAD alone."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import keys
from shared.redis.client import connect
from shared.wire.frames import Frame, decode_frames
from shared.wire.generation import CONTENT_TYPE, Generation, encode_generation
from shared.wire.messages import Reply, Request, decode_reply, encode_request
from tests.helpers import eventually

LANE = keys.DEFAULT_LANE


def null_models(folder: Path, name: str, step_ms: float = 0, slots: int = 64) -> Path:
    """A models file with one null generator."""
    path = folder / "models.toml"
    options = f"{{ step_ms = {step_ms}, slots = {slots} }}"
    path.write_text(f'[models.{name}]\nfamily = "generate"\narchitecture = "null"\noptions = {options}\n')
    return path


@dataclass
class Asked:
    """One request that was added."""

    id: str
    entry: bytes


class Producer:
    """Adds requests to one model, and reads what becomes of them."""

    def __init__(self, url: str, model: str) -> None:
        self.client = connect(url)
        self.model = model
        self.instance = f"producer-{secrets.token_hex(4)}"

    def ask(self, wanted: Generation, ttl_ms: int = 30_000, request_id: str | None = None) -> Asked:
        """Add a request."""
        name = request_id or f"g-{secrets.token_hex(6)}"
        request = Request(name, ttl_ms, CONTENT_TYPE, encode_generation(wanted), reply_to=self.instance)
        entry: Any = self.client.execute_command(
            "XADD", keys.work(self.model, LANE), "NOMKSTREAM", "*", "m", encode_request(request)
        )
        assert entry is not None
        return Asked(name, entry)

    def frames(self, asked: Asked) -> list[Frame]:
        """All frames so far."""
        found: Any = self.client.xread({keys.record(self.model, LANE, asked.id): "0"}, count=100_000)
        rows = found[0][1] if found else []
        for number, (entry, _) in enumerate(rows):
            assert entry == f"{number + 1}-0".encode()
        return [frame for _, fields in rows for frame in decode_frames(fields[b"f"])]

    def hinted(self) -> list[Frame]:
        """All frames that came to this producer's reply stream."""
        rows: Any = self.client.xrange(keys.reply_stream(self.model, LANE, self.instance))
        return [frame for _, fields in rows if b"f" in fields for frame in decode_frames(fields[b"f"])]

    def reply(self, asked: Asked) -> Reply:
        """Wait for the whole answer."""
        place = keys.reply(self.model, LANE, asked.id)
        found: Any = eventually(lambda: self.client.lindex(place, 0), limit_s=40.0)
        return decode_reply(found)

    def tokens(self, asked: Asked) -> int:
        """How many tokens have been written."""
        return sum(len(frame.tokens) // 4 for frame in self.frames(asked))

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


def check_frames(frames: list[Frame], name: str) -> str:
    """Hold frames to what every reader may rely on; returns their text."""
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert {frame.id for frame in frames} == {name}
    attempts = [frame.attempt for frame in frames]
    assert attempts == sorted(attempts)
    assert all(not frame.finish for frame in frames[:-1])
    assert frames[-1].finish
    return "".join(frame.text for frame in frames)
