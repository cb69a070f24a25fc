"""Whatever a model's code raises becomes one sentence that can be printed and sent."""

from __future__ import annotations

import pytest

from consumer.models.load_errors import LONGEST_TEXT, ModelCannotLoad, said_by, told_as_the_models
from shared.state import starts


class Mute(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("bad caf\udce9.bin"), r"RuntimeError: bad caf\udce9.bin."),
        (ValueError("bad caf\udce9.bin."), r"bad caf\udce9.bin."),
        (SystemExit("caf\udce9"), r"it called sys.exit('caf\udce9')."),
        (SystemExit(Mute()), "it called sys.exit(Mute())."),
        (Mute(), "Mute."),
        (RuntimeError("E" * 50_000_000), f"RuntimeError: {'E' * LONGEST_TEXT}."),
    ],
)
def test_what_cannot_be_printed_or_sent_is_shown_by_its_number(error: BaseException, says: str) -> None:
    sentence = said_by(error)
    assert sentence == says
    assert starts.encode(starts.Start("worker", starts.Phase.FAILED, 0, 0, sentence))


def test_the_sentence_names_the_model() -> None:
    with (
        pytest.raises(ModelCannotLoad, match=r"Model mine cannot be loaded: KeyError: 'x'\."),
        told_as_the_models("mine"),
    ):
        raise KeyError("x")
