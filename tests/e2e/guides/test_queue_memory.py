"""What docs/sizing.md says of Redis's memory is what a request takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.redis import library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.children import ROOT
from tests.embedded import EmbeddedServer
from tests.perf.programs import queue_memory


def test_the_table_is_what_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/sizing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w ]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    said = {body: [int(figure.replace(",", "")) for figure in figures] for body, *figures in rows}
    assert set(said) == set(queue_memory.BODIES)
    monkeypatch.setattr(queue_memory, "MOST_REQUESTS", 400)
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no", 64)) as server, connect(server.url) as client:
        library.load(client)
        for body in ("100 bytes", "16 KiB"):
            found = queue_memory.measure(client, body, queue_memory.BODIES[body])
            for figure, expected in zip((found.waiting, found.with_own_id, found.reply), said[body], strict=True):
                assert figure == pytest.approx(expected, rel=0.25), (body, found)
