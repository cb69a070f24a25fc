"""Files that change while they are read."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from producer_api.store import sources
from producer_api.store.sources import FileSource
from shared.wire.outcomes import RequestError


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced in place"])
def test_a_file_that_changes_while_it_is_read_is_no_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"a" * 100)
    monkeypatch.setattr(sources, "PIECE_BYTES", 40)

    async def read() -> bytes:
        read_so_far = b""
        async for piece in FileSource([str(tmp_path)]).pieces(str(path), 1000):
            if not read_so_far:
                with path.open("r+b") as file:
                    if change == "grows":
                        file.seek(0, os.SEEK_END)
                        file.write(b"more")
                    elif change == "shrinks":
                        file.truncate(50)
                    else:
                        file.write(b"b" * 100)
                os.utime(path, ns=(1, 1))
            read_so_far += piece
        return read_so_far

    with pytest.raises(RequestError) as error:
        asyncio.run(read())
    assert error.value.outcome.code == "reference_failed"
    assert error.value.message == "The file changed while it was read."


def test_a_file_that_stays_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "body").write_bytes(bytes(range(256)) * 9000)

    async def read() -> bytes:
        source = FileSource(["/nonexistent", str(tmp_path)])
        return b"".join([piece async for piece in source.pieces(str(tmp_path / "in" / "body"), 1 << 30)])

    assert asyncio.run(read()) == bytes(range(256)) * 9000
