"""Who loads for long says so, and says where."""

from __future__ import annotations

import logging
import re
import threading

import pytest

from consumer.loading.progress import StartWatch, place_of
from shared.state.starts import Phase
from tests.helpers import eventually


class Told:
    """A board that remembers."""

    def __init__(self) -> None:
        self.words: list[tuple[Phase, float, str]] = []

    def tell(self, phase: Phase, for_s: float, detail: str = "") -> None:
        """Remember."""
        self.words.append((phase, for_s, detail))


def test_loading_is_told_again_and_again_in_the_log_too(caplog: pytest.LogCaptureFixture) -> None:
    board = Told()
    with caplog.at_level(logging.INFO), StartWatch("toy", board, 0.001, 0.01).loading() as for_s:
        eventually(lambda: "Model toy is still being loaded" in caplog.text)
        assert for_s() > 0
    said = len(board.words)
    assert {phase for phase, _, _ in board.words} == {Phase.LOADING}
    assert [seconds for _, seconds, _ in board.words] == sorted(seconds for _, seconds, _ in board.words)
    assert "line" in board.words[-1][2]
    assert re.search(r"for \d+ s now: \w+ in .*tests/.*, line \d+\.", caplog.text)
    assert len(board.words) == said  # and nothing follows


def test_it_ends_with_what_it_watches_however_that_ends() -> None:
    before = {thread.ident for thread in threading.enumerate()}
    with pytest.raises(SystemExit), StartWatch("toy", Told()).loading():
        raise SystemExit
    assert not [one for one in threading.enumerate() if one.name == "start" and one.ident not in before]


def test_the_place_is_in_code_that_is_neither_ours_nor_a_librarys() -> None:
    """A thread that waits in the standard library is named by the function that called it."""
    gate = threading.Event()

    def load() -> None:
        gate.wait()

    thread = threading.Thread(target=load)
    thread.start()
    assert thread.ident is not None
    eventually(lambda: place_of(thread.ident or 0).startswith(f"load in {__file__}"))
    gate.set()
    thread.join()
    assert place_of(thread.ident) == "its thread has ended"
