"""Archives that a stranger made: what is refused, in which words, and that nothing is left behind."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from shared.mar import archive, manifest
from shared.mar.archive import ArchiveRefused, is_inside

MANIFEST = {"model": {"modelName": "m", "handler": "h.py", "modelVersion": "2.0"}}


def _zip(place: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return place


def _refused(tmp_path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> str:
    target = tmp_path / "target"
    with pytest.raises(ArchiveRefused) as caught:
        archive.unpack(_zip(tmp_path / "m.mar", *members), target)
    assert not target.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.mar"]
    return str(caught.value)


def test_what_is_in_an_archive_is_unpacked(tmp_path: Path) -> None:
    made = _zip(tmp_path / "m.mar", ("MAR-INF/MANIFEST.json", json.dumps(MANIFEST).encode()), ("h.py", b"1"))
    archive.unpack(made, tmp_path / "target")
    found = manifest.read(tmp_path / "target")
    assert (found.model.model_name, found.model.model_version, found.document) == ("m", "2.0", MANIFEST)


@pytest.mark.parametrize("name", ["../evil.py", "a/../../evil.py", "/etc/evil", "a\\..\\evil", "C:/evil"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    assert _refused(tmp_path, ("h.py", b"1"), (name, b"2")).endswith("a path that leads out of the archive's folder.")


@pytest.mark.parametrize("name", ["", ".", "a\nb", "a\0b"])
def test_names_that_are_none(name: str) -> None:
    assert not is_inside(name)


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("weights.pt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert _refused(tmp_path, (link, b"/etc/passwd")) == (
        "m.mar holds 'weights.pt', which is a link or a device and no file."
    )


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SPARE_BYTES", 1000)
    said = _refused(tmp_path, ("zeros.pt", bytes(10_000_000)))
    assert "would become 10,000,000 unpacked" in said
    assert said.endswith("is a zip bomb.")


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    assert "holds 3 files" in _refused(tmp_path, *((f"{at}", b"") for at in range(3)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path: Path) -> None:
    assert _refused(tmp_path, ("h.py", b"1"), ("h.py", b"2")) == "m.mar holds 'h.py' twice."


def test_a_file_where_a_folder_would_be(tmp_path: Path) -> None:
    assert "cannot be unpacked" in _refused(tmp_path, ("h", b"1"), ("h/x.py", b"2"))


def test_damage_and_what_is_no_archive(tmp_path: Path) -> None:
    made = _zip(tmp_path / "m.mar", ("h.py", b"hello" * 1000))
    content = bytearray(made.read_bytes())
    content[40] ^= 0xFF
    for damaged in (bytes(content), content[:50], b"", b"no zip"):
        made.write_bytes(damaged)
        with pytest.raises(ArchiveRefused, match=r"m\.mar is not a \.mar archive, or it is damaged"):
            archive.unpack(made, tmp_path / "target")
        assert not (tmp_path / "target").exists()
    with pytest.raises(ArchiveRefused, match="There is no file"):
        archive.unpack(tmp_path / "none.mar", tmp_path / "target")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "is no manifest"),
        ("[]", "is no manifest"),
        ({}, "missing required field `model`"),
        ({"model": {}}, "missing required field `handler`"),
        ({"model": {"handler": "gone.py"}}, "the archive has no gone.py, and the handlers that need no file are"),
        ({"model": {"handler": "h.py", "serializedFile": "x.pt"}}, "serializedFile is 'x.pt', and the archive has no"),
        ({"model": {"handler": "h.py", "modelFile": "../h.py"}}, "modelFile is '../h.py', and the archive has no"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, document: Any, said: str) -> None:
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "h.py").write_text("")
    text = document if isinstance(document, str) else json.dumps(document)
    (tmp_path / manifest.PLACE).write_text(text)
    with pytest.raises(ArchiveRefused) as caught:
        manifest.read(tmp_path)
    assert said in str(caught.value)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match=r"is no model archive: it has no MAR-INF/MANIFEST\.json"):
        manifest.read(tmp_path)
