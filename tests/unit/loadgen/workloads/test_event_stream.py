"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

import pytest

from loadgen.load.texts import event_stream
from loadgen.load.texts.event_stream import EventParser, EventTooLong

STREAM = (
    b'\xef\xbb\xbfdata: {"text": "Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x99\x82"}\n\n'
    b": ping\n\n"
    b"id: 1.4\r\nevent: part\r\ndata:one\r\ndata: two\r\n\r\n"
    b"retry: 5\r\rdata\r\r"
    b"data: [DONE]\n\n"
)
EVENTS = ['{"text": "Grüße 🙂"}', "one\ntwo", "", "[DONE]"]


def events(*pieces: bytes) -> list[str]:
    parser = EventParser()
    return [data.decode() for piece in pieces for data in parser.feed(piece)]


def test_comments_and_other_fields_are_passed_over() -> None:
    assert events(STREAM) == EVENTS


def test_pieces_may_end_in_the_middle_of_a_character_or_of_a_line_end() -> None:
    for cut in range(len(STREAM) + 1):
        assert events(STREAM[:cut], STREAM[cut:]) == EVENTS, STREAM[:cut][-8:]
    assert events(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


def test_an_event_that_has_not_ended_is_none() -> None:
    assert events(b"data: half") == []
    assert events(b"data: half\n") == []
    assert events(b"") == []


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MOST_EVENT_BYTES", 1000)
    parser = EventParser()
    parser.feed(b"data: " + b"x" * 900)
    with pytest.raises(EventTooLong):
        parser.feed(b"x" * 200)
    lines = EventParser()
    with pytest.raises(EventTooLong):
        lines.feed(b"data: x\n" * 600)
