"""`headrace request get`: the answer, and below it where the time went."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.children import ROOT, clean_environment

from .conftest import Place


def get(place: Place, *arguments: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "headrace", "request", "get", "--url", place.url, *arguments],
        cwd=ROOT,
        env=clean_environment(**settings),
        capture_output=True,
        timeout=50,
        check=False,
    )


def test_an_answer_that_is_kept_comes_with_a_picture(place: Place) -> None:
    place.predict(place.model, b"hello", query="?id=drawn-1")
    place.explained("drawn-1", has=("worker", "front_end"))
    done = get(place, "drawn-1", PYTHONIOENCODING="utf-8")
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "104 101 108 108 111" in text
    assert f"drawn-1 of {place.model}, lane default: answered after " in text
    assert "the device was free" in text
    assert "█" in text
    assert all(name in text for name in ("admission", "queue", "company", "run", "commit", "way_back"))


def test_an_answer_that_is_not_kept_has_the_picture_alone_also_without_unicode(place: Place) -> None:
    request_id = place.predict(place.model, b"hello").body["id"]
    place.explained(request_id, has=("worker", "front_end"))
    place.predict(place.model, b"again")  # with this one the reply to the first is deleted
    done = get(place, request_id, "--model", place.model, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"answered after" in done.stdout
    assert b"#" in done.stdout


def test_for_programs_the_document_is_a_member_of_the_answer(place: Place) -> None:
    place.predict(place.model, b"hello", query="?id=drawn-2")
    place.explained("drawn-2", has=("worker", "front_end"))
    document = json.loads(get(place, "drawn-2", "--json").stdout)
    assert document["outputs"][0]["data"] == [104, 101, 108, 108, 111]
    assert document["explained"]["found"][0]["id"] == "drawn-2"


def test_one_that_the_front_end_refused_is_drawn(place: Place) -> None:
    refused = place.predict(place.model, b"hello", "image/x-unheard-of")
    request_id = refused.body["error"]["id"]
    place.explained(request_id, has=("front_end",))
    done = get(place, request_id)
    assert (done.returncode, b"unsupported_media_type" in done.stdout) == (0, True)


def test_what_nobody_knows_is_not_there(place: Place) -> None:
    done = get(place, "never-came")
    assert done.returncode == 4
    assert b"There is no request never-came" in done.stderr
