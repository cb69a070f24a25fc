"""The kit for tests of one's own model, tried with models that behave and models that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from headrace import testing
from headrace.model import IMAGES, Description, ImageModel, Model, Request, Result, TensorModel, TensorSpec, TextModel


class Lengths(TextModel):
    """Counts characters; knows how it was called."""

    size = 1

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.is_closed = False

    def load(self, device: str, precision: str) -> None:
        self.loaded = (device, precision)

    def compute(self, texts: Sequence[str]) -> Any:
        self.calls.append(list(texts))
        if "poison" in texts:
            raise ArithmeticError("poisoned")
        return [[len(text)] for text in texts]

    def close(self) -> None:
        self.is_closed = True


def test_a_text_gets_its_answer() -> None:
    model = Lengths()
    with testing.stack(model) as stack:
        answer = stack.predict("four")
        assert answer.outputs["vector"].tolist() == [[4.0]]
        assert model.loaded == ("cpu", "fp32") and not model.is_closed
        assert answer.timing.batch_wait_ms == pytest.approx(5.0)
    assert model.is_closed


def test_requests_sent_together_run_as_one_batch() -> None:
    model = Lengths()
    with testing.stack(model) as stack:
        sent = stack.together(["a", "bb", {"text": ["ccc", "dddd"]}])
        assert [one.answer().outputs["vector"].ravel().tolist() for one in sent] == [[1.0], [2.0], [3.0, 4.0]]
        assert stack.batches == [testing.Batch(tuple(one.id for one in sent), 4, "window")]
    assert model.calls[-1] == ["a", "bb", "ccc", "dddd"]


def test_a_full_batch_runs_at_once_and_the_rest_waits() -> None:
    with testing.stack(Lengths(), max_batch=2) as stack:
        sent = [stack.send(text) for text in ("a", "b", "c")]
        assert [one.is_done for one in sent] == [True, True, False]
        assert [batch.reason for batch in stack.batches] == ["full"]
        stack.clock.advance(0.0049)
        assert not sent[2].is_done
        with pytest.raises(RuntimeError, match="has not run yet: move the clock"):
            sent[2].answer()
        stack.clock.advance(0.0002)
        assert sent[2].answer().timing.batch_size == 1
        assert [(batch.rows, batch.reason) for batch in stack.batches] == [(2, "full"), (1, "window")]


def test_what_arrives_within_the_window_rides_along() -> None:
    with testing.stack(Lengths(), window_s=0.010) as stack:
        first = stack.send("a")
        stack.clock.advance(0.009)
        second = stack.send("b")
        stack.clock.advance(0.002)
        third = stack.send("c")
        stack.clock.advance(0.010)
        assert [batch.ids for batch in stack.batches] == [(first.id, second.id), (third.id,)]
        assert first.answer().timing.batch_wait_ms == pytest.approx(10.0)
        assert second.answer().timing.batch_wait_ms == pytest.approx(1.0)


def test_the_policy_of_a_consumer_without_settings_does_not_wait() -> None:
    with testing.stack(Lengths(), policy="adaptive") as stack:
        assert stack.send("a").answer().timing.batch_wait_ms == 0.0
        assert stack.batches[0].reason == "idle"


def test_one_that_fails_fails_alone_and_the_cause_is_there() -> None:
    with testing.stack(Lengths()) as stack:
        good, bad, other = stack.together(["a", "poison", "b"])
        assert good.answer().outputs["vector"].tolist() == [[1.0]]
        assert other.answer().outputs["vector"].tolist() == [[1.0]]
        error = bad.error()
        assert (error.code, error.status) == ("model_error", 500)
        assert error.message == "The model failed on this input; the consumer's log says why."
        assert isinstance(error.__cause__, ArithmeticError)
        assert "poisoned" in error.__notes__[0]
        with pytest.raises(AssertionError, match="was answered"):
            good.error()


def test_errors_are_those_that_clients_see() -> None:
    with testing.stack(Lengths()) as stack:
        wrong = stack.send(b"\xff", content_type="text/plain").error()
        assert (wrong.code, wrong.status, wrong.field) == ("invalid_input", 422, "body")
        assert wrong.message == "The text is not UTF-8: byte 0 is wrong."
        assert stack.send(b"x", content_type="image/jpeg").error().status == 415
        many = stack.send(inputs={"text": ["x"] * 33}).error()
        assert many.message == "A request must have 1 to 32 rows, not 33."
        assert stack.batches == []
        with pytest.raises(testing.HeadraceError, match="unsupported_media_type"):
            stack.predict(b"x")
        with pytest.raises(ValueError, match="either a body or inputs"):
            stack.predict()


def test_after_its_deadline_a_request_does_not_run() -> None:
    model = Lengths()
    with testing.stack(model, window_s=1.0) as stack:
        late = stack.send("late", timeout_s=0.5)
        stack.clock.advance(0.4)
        assert not late.is_done
        stack.clock.advance(0.7)
        assert late.is_done
        assert late.error().code == "expired"
    assert ["late"] not in model.calls


class Sums(TensorModel):
    """Adds numbers, or what a test wants it to do."""

    inputs: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {"numbers": ("FP32", (2,))}
    outputs: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {"sum": ("FP32", (1,))}

    def load(self, device: str, precision: str) -> None:
        pass

    def compute(self, **inputs: Any) -> Any:
        return inputs["numbers"].sum(axis=1, keepdims=True)


def test_arrays_go_in_and_come_out() -> None:
    with testing.stack(Sums()) as stack:
        answer = stack.predict(inputs={"numbers": np.array([[1, 2], [3, 4]], np.float32)})
        assert answer.outputs["sum"].tolist() == [[3.0], [7.0]]
        wrong = stack.send(inputs={"numbers": np.zeros(3, np.float32)}).error()
        assert wrong.field is not None and wrong.field.startswith("inputs[0]")


class Photos(ImageModel):
    """A classifier of pictures."""

    side = 4
    labels: ClassVar[tuple[str, ...]] = ("cat", "dog")

    def load(self, device: str, precision: str) -> None:
        pass

    def compute(self, pixels: Any) -> Any:
        return np.tile(np.array([0.25, 0.75], np.float32), (len(pixels), 1))


def test_pictures_are_decoded_as_in_a_consumer() -> None:
    from pathlib import Path

    photo = Path(__file__).parents[4] / "examples/photos/cat.jpg"
    with testing.stack(Photos()) as stack:
        assert [one.label for one in stack.predict(photo, top_k=1).predictions] == ["dog"]
        assert stack.predict(photo).timing.batch_size == 1
        assert stack.send(b"no picture", content_type=IMAGES[0]).error().code == "invalid_input"


class Own(Model):
    """A model with all its methods, of which a test breaks one."""

    def __init__(self, **broken: Any) -> None:
        self._broken = broken
        self.is_closed = False

    def describe(self) -> Description:
        return Description((TensorSpec("x", "UINT8", (-1,)),), (TensorSpec("y", "UINT8", (1,)),))

    def load(self, device: str, precision: str) -> None:
        if "load" in self._broken:
            raise ValueError("weights.bin is missing.")

    def preprocess(self, request: Request) -> Sequence[Any]:
        return [request.body]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        return self._broken["run"](rows) if "run" in self._broken else rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        from headrace.model import Tensor

        return Result(outputs=[Tensor("y", "UINT8", (1, 1), self._broken.get("data", b"1"))])

    def sample_rows(self, count: int) -> Sequence[Any]:
        return [b"x"] * count

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"load": True}, "weights.bin is missing"),
        ({"run": lambda rows: []}, r"run\(\) returned 0 outputs for 1 rows"),
        ({"run": lambda rows: None}, r"run\(\) must return a sequence"),
        ({"data": b"12"}, "output y holds 2 bytes, but the shape"),
    ],
)
def test_a_model_that_breaks_its_promises_does_not_open(broken: dict[str, Any], told: str) -> None:
    model = Own(**broken)
    with pytest.raises(testing.ModelCannotLoad, match=told), testing.stack(model):
        pass
    assert model.is_closed


def test_a_wrong_output_of_one_request_is_named() -> None:
    model = Own(run=lambda rows: rows[:-1] if b"short" in rows else rows)
    with testing.stack(model) as stack:
        assert stack.predict(b"fine").outputs["y"].tolist() == [[ord("1")]]
        error = stack.send(b"short")
        stack.clock.advance(1.0)
        assert "run() returned 0 outputs for 1 rows" in error.error().__notes__[0]


def test_arguments_that_make_no_sense_are_refused() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"max_batch": 0}, {"window_s": -1.0}, {"policy": "magic"})
    for arguments in wrong:
        with pytest.raises(ValueError, match="max_batch must be at least 1"), testing.stack(Lengths(), **arguments):
            pass
    given: Any = Lengths
    with pytest.raises(ValueError, match="not the class Lengths"), testing.stack(given):
        pass
    with testing.stack(Lengths()) as stack, pytest.raises(ValueError, match="duration_s must be at least 0"):
        stack.clock.advance(-1.0)


def test_an_exception_of_the_test_itself_passes() -> None:
    model = Lengths()
    with pytest.raises(KeyError), testing.stack(model):
        raise KeyError("mine")
    assert model.is_closed
