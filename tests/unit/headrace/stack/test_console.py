from __future__ import annotations

import io
import os

import pytest

from headrace.stack.console import Console


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_line_stands_behind_the_name_of_its_process() -> None:
    stream = io.StringIO()
    console = Console(["redis", "producer_api"], stream)
    console.line("redis", "ready")
    console.say("headrace: hello")
    assert stream.getvalue() == "redis        | ready\nheadrace: hello\n"


def test_names_are_coloured_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = _Terminal()
    Console(["redis"], terminal).line("redis", "ready")
    assert terminal.getvalue() == "\x1b[36mredis |\x1b[0m ready\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = _Terminal()
    Console(["redis"], plain).line("redis", "ready")
    assert plain.getvalue() == "redis | ready\n"


def test_a_reader_that_went_away_does_no_harm() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        console = Console(["redis"], stream)
        console.line("redis", "lost")
        console.line("redis", "lost as well")
        assert console._outlet is not None
        assert isinstance(console._outlet.failed, BrokenPipeError)
