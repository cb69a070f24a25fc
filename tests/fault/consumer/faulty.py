"""A model that misbehaves as models do in bug reports. A request says how: ``STEP:HOW``, such as ``run:none``.

``STEP`` is ``pre``, ``run``, ``post``, or ``decodes``; everything else is answered with the numbers 0 to 3.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Prediction, Request, Tensor
from shared.wire.outcomes import invalid

Y = np.arange(4, dtype=np.float32)[None]
SAMPLE = b"sample"


class PanicException(BaseException):
    """As what the extension modules of Rust raise."""


class Bad:
    """Raises whatever Python asks of it."""

    def __getattribute__(self, name: str) -> Any:
        raise PanicException(name)

    def __len__(self) -> int:
        raise PanicException("no length")

    def __bool__(self) -> bool:
        raise PanicException("no truth")

    def __repr__(self) -> str:
        raise PanicException("no repr")

    def __eq__(self, other: object) -> bool:
        raise PanicException("no equality")


class MuteError(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise PanicException("no text")

    __repr__ = __str__


RAISED: Mapping[str, Callable[[], BaseException]] = {
    "exit": lambda: SystemExit(3),
    "panic": lambda: PanicException("called `Option::unwrap()` on a `None` value"),
    "cancelled": asyncio.CancelledError,
    "kbd": KeyboardInterrupt,
    "stopped": GeneratorExit,
    "iteration": StopIteration,
    "raise": lambda: RuntimeError("boom"),
    "mute": MuteError,
    "memory": MemoryError,
    "nonsense": lambda: invalid(Bad(), Bad()),  # type: ignore[arg-type]
}


def y(data: Any, *, name: Any = "y", datatype: Any = "FP32", shape: Any = (1, 4)) -> Result:
    """One tensor, as wrong as wished."""
    return Result(outputs=[Tensor(name, datatype, shape, data)])


def guess(label: Any = "a", index: Any = 1, score: Any = 0.5, row: Any = 0) -> Result:
    """One prediction, as wrong as wished."""
    return Result(predictions=[Prediction(label, index, score, row)])


ROWS: Mapping[str, Callable[[], Any]] = {
    "generator": lambda: (row for row in [SAMPLE]),
    "array": lambda: np.array([SAMPLE]),
    "none": lambda: None,
    "scalar": lambda: np.array(3),
    "bytes": lambda: b"abc",
    "dict": lambda: {"x": 1},
    "bad": Bad,
    "empty": list,
}
OUTPUTS: Mapping[str, Callable[[int], Any]] = {
    "generator": lambda count: (SAMPLE for _ in range(count)),
    "none": lambda count: None,
    "dict": lambda count: {"logits": np.zeros((count, 4))},
    "scalar": lambda count: np.float32(3),
    "zerod": lambda count: np.array(3.0),
    "short": lambda count: [SAMPLE] * (count - 1),
    "long": lambda count: [SAMPLE] * (count + 1),
    "bytes": lambda count: b"x" * count,
    "bad": lambda count: Bad(),
}
RESULTS: Mapping[str, Callable[[], Any]] = {
    "f64": lambda: y(Y.astype(np.float64).tobytes()),
    "f64array": lambda: y(Y.astype(np.float64)),
    "i64": lambda: y(bytes(16), datatype="INT64", shape=(1, 2)),
    "short": lambda: y(Y.tobytes()[:6]),
    "wrongshape": lambda: y(Y.tobytes(), shape=(2, 2)),
    "norows": lambda: y(Y.tobytes(), shape=(4,)),
    "float32name": lambda: y(Y.tobytes(), datatype="float32"),
    "othername": lambda: y(Y.tobytes(), name="z"),
    "bytes": lambda: y(b"hello", datatype="BYTES", shape=(1, 1)),
    "empty": lambda: Result(predictions=[]),
    "nothing": Result,
    "nooutputs": lambda: Result(outputs=[]),
    "none": lambda: None,
    "dict": lambda: {"y": [1, 2]},
    "both": lambda: Result(predictions=guess().predictions, outputs=y(Y.tobytes()).outputs),
    "bad": Bad,
    "badname": lambda: y(Y.tobytes(), name=Bad()),
    "baddata": lambda: y(Bad()),
    "list": lambda: y([0.0, 1.0, 2.0, 3.0]),
    "text": lambda: guess(score="0.5"),
    "row": lambda: guess(row=1),
    "label": lambda: guess(label=b"a"),
    "npdata": lambda: y(Y),
    "bigendianarray": lambda: y(Y.astype(">f4")),
    "noncontig": lambda: y(np.repeat(Y, 2, axis=1)[:, ::2].data),
    "npshape": lambda: y(Y.tobytes(), shape=tuple(np.array(Y.shape))),
    "listshape": lambda: y(Y.tobytes(), shape=list(Y.shape)),
    "gen": lambda: Result(outputs=(one for one in y(Y).outputs or ())),  # type: ignore[arg-type]
    "bigendian": lambda: y(Y.astype(">f4").tobytes()),
    "nan": lambda: y(np.array([1, np.nan, np.inf, -np.inf], "f4")),
    "npscore": lambda: guess(score=np.float32(0.5)),
    "npindex": lambda: guess(index=np.int64(1)),
    "nplabel": lambda: guess(label=np.str_("a")),
}


class Faulty(Model):
    """See the module."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._decodes, self._step = bool(options.get("decodes")), str(options.get("step", ""))

    def describe(self) -> Description:
        """Bytes in, four numbers out."""
        return Description((TensorSpec("input", "UINT8", (-1,)),), (TensorSpec("y", "FP32", (4,)),))

    def load(self, device: str, precision: str) -> None:
        """Do nothing, unless the options say so."""
        self._fail("load")

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Make one row."""
        body = request.body or b""
        how = _how(body, "pre")
        return ROWS[how]() if how in ROWS else [body]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Give the rows back."""
        for row in rows:
            how = _how(bytes(row), "run")
            if how.startswith("sleep"):
                time.sleep(float(how[5:]))
            elif how in OUTPUTS:
                outputs: Sequence[Any] = OUTPUTS[how](len(rows))
                return outputs
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Answer with four numbers."""
        how = _how(bytes(outputs[0]), "post")
        result: Result = RESULTS[how]() if how in RESULTS else y(Y.tobytes())
        return result

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Harmless rows, unless the options say otherwise."""
        self._fail("sample_rows")
        return [SAMPLE] * count

    def decodes(self, request: Request) -> bool:
        """As the options say."""
        answer: bool = Bad() if _how(request.body or b"", "decodes") == "bad" else self._decodes  # type: ignore[assignment]
        return answer

    def _fail(self, step: str) -> None:
        at, _, how = self._step.partition(":")
        if at == step:
            raise RAISED[how]()


def _how(row: bytes, step: str) -> str:
    """How a row misbehaves in ``step``; raises what it is told to."""
    at, _, how = row.decode(errors="replace").partition(":")
    if at != step:
        return ""
    if how in RAISED:
        raise RAISED[how]()
    return how


def create(options: Mapping[str, Any]) -> Model:
    """Make one. ``decodes``: rows are made by the pool; ``step``: what fails at the start, such as ``load:exit``."""
    if str(options.get("step")) == "create:exit":
        sys.exit(3)
    return Faulty(options)
