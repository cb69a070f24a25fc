"""Whatever a model's code raises becomes one request's answer, and a line in the log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumer.models.model_errors import FAILED, answer_to, described
from shared.wire.messages import Fault, ModelTag, Reply, Timing, encode_reply
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, OK, Outcome, RequestError, invalid
from tests.unit.consumer.parts import item


class Panic(BaseException):
    """As the one of Rust's extension modules, which is no Exception."""


class Mute(Exception):
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise Panic("no repr")

    __str__ = __repr__


EVERYTHING = [
    ZeroDivisionError("a bug"),
    Mute(),
    Panic("called `Option::unwrap()` on a `None` value"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    MemoryError(),
    RequestError("invalid_input", "an outcome that is none"),  # type: ignore[arg-type]
    RequestError(OK, "a failure that is none"),
    RequestError(Outcome("invalid_input", 422), "of a table of its own"),
]


@pytest.mark.parametrize("error", EVERYTHING, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_is_the_models_fault_and_logged_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    answer = answer_to(error, item("a"), "Preprocessing")
    assert (answer.outcome, answer.message, answer.field) == (MODEL_ERROR, FAILED, None)
    assert [record.message.startswith("Preprocessing failed for request a: ") for record in caplog.records] == [True]
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize(
    ("message", "field", "expected"),
    [
        ("Too sour.", "body", ("Too sour.", "body")),
        (ValueError("too sour"), None, ("ValueError('too sour')", None)),
        (Mute(), None, ("Mute", None)),
        (None, 3, ("a NoneType", "a int")),
        (b"bytes", None, ("a bytes", None)),
        ("half \ud800 a letter", None, ("half ? a letter", None)),
        ("x" * 5000, None, ("x" * 1024, None)),
    ],
)
def test_a_models_own_refusal_is_its_answer_and_can_be_encoded(
    message: Any, field: Any, expected: tuple[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    answer = answer_to(invalid(message, field), item("a"), "Preprocessing")
    assert (answer.outcome, answer.message, answer.field) == (INVALID_INPUT, *expected)
    assert caplog.records == []
    fault = Fault(answer.outcome.code, answer.message, answer.field)
    assert encode_reply(Reply("a", ModelTag("m", "1", "fp32"), Timing(), fault=fault))


def test_an_answer_that_is_wrong_is_logged_although_it_is_the_models_own(caplog: pytest.LogCaptureFixture) -> None:
    assert (
        answer_to(RequestError(MODEL_ERROR, "Output y is missing."), item("a"), "x").message == "Output y is missing."
    )
    assert "Request a: Output y is missing." in caplog.text


def test_what_cannot_be_shown_is_named() -> None:
    assert described(Mute()) == "Mute"
    assert described(ValueError("x")) == "ValueError('x')"
