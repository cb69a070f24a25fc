"""Archives of ``torch-model-archiver --archive-format tgz``: unpacked as a zip is, and trusted as little."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from shared.mar import archive, manifest, unpacking
from shared.mar.archive import ArchiveRefused

MANIFEST = json.dumps({"model": {"modelName": "m", "handler": "h.py", "modelVersion": "2.0"}}).encode()
WHOLE = (("m/h.py", b"1"), ("m/MAR-INF/MANIFEST.json", MANIFEST))
"""As that command lays it out: in a folder with the model's name, the manifest last."""


def _member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    one = tarfile.TarInfo(name)
    one.size, one.type = len(content), kind
    return one, content


def _tar(place: Path, *members: tuple[str, bytes] | tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(place, "w:gz") as made:
        for name, content in members:
            one, content = _member(name, content) if isinstance(name, str) else (name, content)
            made.addfile(one, io.BytesIO(content))
    return place


def _refused(tmp_path: Path, *members: tuple[str, bytes] | tuple[tarfile.TarInfo, bytes]) -> str:
    return _refused_file(_tar(tmp_path / "m.tar.gz", *members))


def _refused_file(made: Path) -> str:
    with pytest.raises(ArchiveRefused) as caught:
        unpacking.unpack(made, made.parent / "target")
    assert sorted(path.name for path in made.parent.iterdir()) == [made.name]
    return str(caught.value)


@pytest.mark.parametrize("name", ["m.tar.gz", "m.tgz", "m.mar"])
def test_what_is_in_it_is_unpacked_without_the_folder_around_it(tmp_path: Path, name: str) -> None:
    unpacking.unpack(_tar(tmp_path / name, *WHOLE), tmp_path / "new" / "target")
    found = manifest.read(tmp_path / "new" / "target")
    assert (found.model.model_name, found.model.model_version) == ("m", "2.0")
    assert (tmp_path / "new" / "target" / "h.py").read_bytes() == b"1"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["target"]


def test_one_with_the_manifest_at_the_top(tmp_path: Path) -> None:
    members = [(f"./{name.removeprefix('m/')}", content) for name, content in WHOLE]
    unpacking.unpack(_tar(tmp_path / "m.tgz", _member(".", kind=tarfile.DIRTYPE), *members), tmp_path / "target")
    assert manifest.read(tmp_path / "target").model.handler == "h.py"


def test_the_name_without_the_ending() -> None:
    names = ["store/bert.mar", "bert.tar.gz", "bert.v2.tgz", "folder", ".mar"]
    assert [unpacking.stem(Path(name)) for name in names] == ["bert", "bert", "bert.v2", "folder", ".mar"]


@pytest.mark.parametrize("name", ["../evil.py", "m/../../evil.py", "/etc/evil", "m\\..\\evil", "C:/evil"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    assert _refused(tmp_path, *WHOLE, (name, b"2")).endswith("a path that leads out of the archive's folder.")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    one, _ = _member("m/weights.pt", kind=kind)
    one.linkname = "/etc/passwd"
    assert _refused(tmp_path, (one, b"")).endswith("which is a link or a device and no file.")


def test_a_file_through_a_link_or_twice(tmp_path: Path) -> None:
    assert _refused(tmp_path, ("m/h.py", b"1"), ("m/h.py", b"2")) == "m.tar.gz holds 'm/h.py' twice."
    assert "cannot be unpacked" in _refused(tmp_path, ("m/h", b"1"), ("m/h/x.py", b"2"))


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SPARE_BYTES", 1000)
    assert _refused(tmp_path, ("m/zeros.pt", bytes(10_000_000))).endswith("bytes unpacked: a zip bomb.")


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    one, _ = _member("././@PaxHeader", kind=tarfile.XHDTYPE)
    one.size = 8 << 30
    made = tmp_path / "m.tar.gz"
    made.write_bytes(gzip.compress(one.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    assert "has a header of 8,589,934,592 bytes" in _refused_file(made)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    assert "holds more than 2 files" in _refused(tmp_path, *((f"m/{at}", b"") for at in range(3)))


def test_what_is_damaged(tmp_path: Path) -> None:
    made = _tar(tmp_path / "m.tar.gz", *WHOLE, ("m/weights.pt", bytes(range(256)) * 99))
    whole = made.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:40], gzip.compress(b"no tar"), b"\x1f\x8b"):
        made.write_bytes(part)
        assert "is not a .tar.gz archive, or it is damaged" in _refused_file(made)
