"""Zips as they come in pieces, and zips that mean harm."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

import pytest

from producer_api.bulk.readers.items import Item
from producer_api.bulk.readers.zips import Zip
from shared.wire.outcomes import BODY_TOO_LARGE, INVALID_INPUT, MALFORMED, RequestError

MEBIBYTE = 1 << 20


class Pipe(io.RawIOBase):
    """What cannot be sought in, so that sizes come behind the data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: object) -> int:
        """Take more."""
        self.data += memoryview(data)  # type: ignore[arg-type]
        return len(memoryview(data))  # type: ignore[arg-type]


def packed(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, is_streamed: bool = False) -> bytes:
    target = Pipe() if is_streamed else io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return bytes(target.data) if isinstance(target, Pipe) else target.getvalue()


def read(
    upload: bytes, piece_bytes: int = 4096, most_file_bytes: int = MEBIBYTE, most: int = 50 * MEBIBYTE
) -> list[Item]:
    reader = Zip(most_file_bytes, most)
    items: list[Item] = []
    for at in range(0, len(upload), piece_bytes):
        items += reader.feed(upload[at : at + piece_bytes])
    return [*items, *reader.close()]


FILES = {"a.jpg": b"\xff\xd8\xff" + bytes(range(256)) * 40, "folder/b.png": b"PK\x07\x08" * 100, "empty": b""}


@pytest.mark.parametrize("piece_bytes", [1, 13, 100_000])
@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_are_the_same_however_they_are_packed_and_cut(method: int, is_streamed: bool, piece_bytes: int) -> None:
    items = read(packed(FILES, method, is_streamed=is_streamed), piece_bytes)
    assert {item.name: item.body for item in items} == FILES
    assert [item.error for item in items] == [None] * 3


def test_folders_hidden_files_and_those_of_macos_are_left_out() -> None:
    files = {"x/": b"", "__MACOSX/._a.jpg": b"1", ".DS_Store": b"2", "x/.hidden": b"3", "x/a.jpg": b"4"}
    assert [item.name for item in read(packed(files))] == ["x/a.jpg"]


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "..\\a.jpg", "C:\\a.jpg", "a/.."])
def test_a_name_that_leads_out_refuses_the_zip(name: str) -> None:
    with pytest.raises(RequestError, match="leads out") as refused:
        read(packed({"fine.jpg": b"x", name: b"y"}))
    assert refused.value.outcome is INVALID_INPUT


def test_a_bomb_is_refused_before_it_has_expanded() -> None:
    bomb = packed({"a.jpg": bytes(40 * MEBIBYTE)})
    assert len(bomb) < MEBIBYTE
    reader = Zip(MEBIBYTE, 50 * MEBIBYTE)
    with pytest.raises(RequestError, match="expands to more than 100 times") as refused:
        list(reader.feed(bomb))
    assert refused.value.outcome is BODY_TOO_LARGE
    assert reader._expanded <= 3 * MEBIBYTE


def test_many_files_that_expand_together_are_refused() -> None:
    files = {f"{number}.jpg": bytes(MEBIBYTE // 2) for number in range(20)}  # each is small enough for any ratio
    with pytest.raises(RequestError, match="more than the 5242880 bytes"):
        read(packed(files), most=5 * MEBIBYTE)


def test_a_zip_inside_a_zip_is_a_file_like_any_other() -> None:
    inner = packed({"b.jpg": b"x"})
    assert [(item.name, item.body) for item in read(packed({"a.zip": inner}))] == [("a.zip", inner)]


def test_a_file_that_is_too_large_errs_alone() -> None:
    large = bytes(range(256)) * 8192
    items = read(packed({"a.jpg": large, "b.jpg": b"small"}, zipfile.ZIP_STORED), most_file_bytes=MEBIBYTE)
    assert items[0].error is not None
    assert items[0].error.outcome is BODY_TOO_LARGE
    assert (items[0].name, items[0].body, items[1].body) == ("a.jpg", b"", b"small")


def test_a_file_with_another_checksum_errs_alone() -> None:
    damaged = packed({"a.jpg": b"first!", "b.jpg": b"second"}, zipfile.ZIP_STORED).replace(b"first!", b"fir5t!", 1)
    items = read(damaged)
    assert items[0].error is not None
    assert "checksum" in items[0].error.message
    assert items[1].body == b"second"


def test_an_encrypted_zip_is_refused() -> None:
    made = bytearray(packed({"a.jpg": b"x"}))
    made[6] |= 1  # the flag in the local header
    with pytest.raises(RequestError, match="is encrypted"):
        read(bytes(made))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(RequestError, match="compressed by method 12"):
        read(packed({"a.jpg": b"x" * 100}, zipfile.ZIP_BZIP2))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_is_cut_short_is_refused_wherever(method: int) -> None:
    whole = packed({"a.jpg": b"some bytes" * 10, "b.jpg": b"more"}, method)
    for length in range(len(whole)):
        with pytest.raises(RequestError) as refused:
            read(whole[:length])
        assert refused.value.outcome is MALFORMED


def test_entries_that_the_directory_does_not_list_are_refused() -> None:
    one, two = packed({"a.jpg": b"x"}), packed({"b.jpg": b"y"})
    entry = one[: one.index(b"PK\x01\x02")]
    with pytest.raises(RequestError, match="lists 1 entries, and 2 came"):
        read(entry + two)


def test_sizes_of_eight_bytes_are_read() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made, made.open("a.jpg", "w", force_zip64=True) as file:
        file.write(b"x" * 5000)
    assert [item.body for item in read(target.getvalue())] == [b"x" * 5000]


@pytest.mark.parametrize("junk", [b"\xff\xd8\xff not a zip at all", b"PK\x03\x05" + bytes(100), bytes(1000)])
def test_what_is_no_zip_is_refused(junk: bytes) -> None:
    with pytest.raises(RequestError):
        read(junk)


def test_damaged_data_are_refused() -> None:
    head = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, 5, 5, 1, 0)
    with pytest.raises(RequestError, match="is damaged"):
        read(head + b"a" + b"\xff" * 500)
