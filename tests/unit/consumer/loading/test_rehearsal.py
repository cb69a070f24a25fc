"""The rehearsal: samples decide whether a model is ready, and nothing that was guessed does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from consumer.loading.rehearsal import rehearse
from consumer.models.base import Description, Result
from consumer.models.load_errors import ModelCannotLoad
from consumer.models.own.checked_model import CheckedModel
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import invalid
from tests.unit.consumer.parts import SPEC, Toy


class Proper(Toy):
    """Describes what it gives."""

    def describe(self) -> Description:
        """Bytes in, bytes out."""
        return Description(SPEC, (TensorSpec("output", "UINT8", (-1,)),))

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """One row."""
        [output] = super().postprocess(outputs, request).outputs or ()
        return Result(outputs=[Tensor("output", "UINT8", (1, *output.shape), output.data)])


def rehearsed(build: Callable[[], Toy]) -> Any:
    model = CheckedModel(build(), lambda: None)
    return rehearse("toy", model, model.describe())


def test_a_model_that_passes_shows_what_it_was_seen_to_answer() -> None:
    example = rehearsed(Proper)
    assert (example.content_type, example.body) == ("application/octet-stream", "sample")


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), SystemExit(3), invalid("Never.", "body")])
def test_a_model_whose_postprocess_raises_is_not_ready(error: BaseException) -> None:
    class Sour(Proper):
        def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
            raise error

    with pytest.raises(ModelCannotLoad, match="Model toy cannot be loaded: its own samples do not pass through it"):
        rehearsed(Sour)


def test_a_model_whose_answer_is_not_what_it_describes_is_not_ready() -> None:
    class Short(Proper):
        def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
            return Result(outputs=[Tensor("output", "UINT8", (1, 9), b"short")])

    with pytest.raises(ModelCannotLoad, match="output output holds 5 bytes"):
        rehearsed(Short)


def test_a_model_that_refuses_what_was_guessed_is_ready_and_shows_nothing() -> None:
    class Choosy(Proper):
        def preprocess(self, request: Request) -> Sequence[bytes]:
            raise invalid("Not this one.", "body")

    assert rehearsed(Choosy) is None


def test_answers_that_depend_on_a_request_are_not_held_against_a_model_that_takes_none_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Curious(Proper):
        def preprocess(self, request: Request) -> Sequence[bytes]:
            raise invalid("Not this one.", "body")

        def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
            assert request.body is not None
            return super().postprocess(outputs, request)

    with caplog.at_level(logging.INFO):
        assert rehearsed(Curious) is None
    assert "they depend on a request" in caplog.text


@pytest.mark.parametrize("answer", [b"refuse", b"break", b"sour", 7])
def test_an_example_that_is_not_answered_is_told_and_the_guess_shown(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(Proper):
        def example(self) -> Any:
            return answer

    assert rehearsed(Mistaken).body == "sample"
    assert "WARNING" in caplog.text


def test_an_example_that_raises_is_told() -> None:
    class Broken(Proper):
        def example(self) -> Any:
            raise SystemExit

    assert rehearsed(Broken).body == "sample"


def test_an_example_that_is_answered_is_shown() -> None:
    class Helpful(Proper):
        def example(self) -> Any:
            return b"good morning"

    assert rehearsed(Helpful).body == "good morning"
