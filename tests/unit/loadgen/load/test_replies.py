"""What counts as an answer."""

from __future__ import annotations

import pytest

from loadgen.load.replies import ALWAYS_PARSED_BYTES, ReplyCheck, error_code


def test_predictions_and_outputs_are_answers() -> None:
    check = ReplyCheck(seed=1)
    assert check.is_answer(b'{"predictions":[{"index":1}],"timing":{}}')
    assert check.is_answer(b'{"outputs":[{"data":[1.5]}]}')
    assert not check.is_answer(b'{"outputs":{}}')
    assert not check.is_answer(b"\xff\xfe")
    assert check.parsed == 4


def test_large_answers_are_sampled_and_always_looked_at() -> None:
    check = ReplyCheck(seed=1)
    large = b'{"outputs":[{"data":"' + b"x" * ALWAYS_PARSED_BYTES + b'"}]}'
    assert all(check.is_answer(large) for _ in range(320))
    assert 5 <= check.parsed <= 60
    assert not any(check.is_answer(large[:-1]) for _ in range(100))
    parsed = check.parsed
    assert check.is_answer(large, must_parse=True)
    assert check.parsed == parsed + 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"no_worker","message":"m","field":null,"id":null}}', "no_worker"),
        (b'{"error":{"code":null}}', None),
        (b'{"error":"text"}', None),
        (b"<html>", None),
        (b"", None),
        (b"\xff", None),
        (b'{"error":{"code":"' + b"x" * 5000 + b'"}}', "x" * 100),
    ],
)
def test_codes_of_errors(body: bytes, code: str | None) -> None:
    assert error_code(body) == code
