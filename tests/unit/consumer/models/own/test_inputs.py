"""Inputs as arrays: what does not fit is refused with the field to blame."""

from __future__ import annotations

import numpy as np
import pytest

from consumer.models.own.inputs import arrays
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import RequestError

SPECS = (TensorSpec("ids", "INT64", (-1,)), TensorSpec("text", "BYTES", ()))


def ids(*shape: int, datatype: str = "INT64", name: str = "ids") -> Tensor:
    return Tensor(name, datatype, shape, np.arange(np.prod(shape), dtype="<i8").tobytes())


def text(*parts: bytes, shape: tuple[int, ...] | None = None) -> Tensor:
    data = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return Tensor("text", "BYTES", (len(parts),) if shape is None else shape, data)


def asked(*inputs: Tensor) -> Request:
    return Request("a", 1000, inputs=inputs)


def test_rows_come_first_whether_they_were_told_or_not() -> None:
    found = arrays(asked(text("schön".encode(), b""), ids(2, 3)), SPECS)
    assert found["ids"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["text"].tolist() == ["schön", ""]
    one = arrays(asked(ids(3), text(b"x", shape=())), SPECS)
    assert (one["ids"].shape, one["text"].shape) == ((1, 3), (1,))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Request("a", 1000, "application/octet-stream", b"x"), "inputs"),
        (asked(ids(3)), "inputs"),
        (asked(ids(3), text(b"x"), ids(3, name="more")), "inputs[2].name"),
        (asked(ids(3), ids(3)), "inputs[1].name"),
        (asked(ids(3, datatype="UINT64"), text(b"x")), "inputs[0].datatype"),
        (asked(ids(1, 1, 3), text(b"x")), "inputs[0].shape"),
        (asked(ids(0), text(b"x")), "inputs[0].shape"),
        (asked(ids(2, 3), text(b"x")), "inputs[1].shape"),
        (asked(ids(3), text(b"\xff")), "inputs[1].data"),
    ],
)
def test_what_does_not_fit_names_the_field(request_: Request, field: str) -> None:
    with pytest.raises(RequestError) as refused:
        arrays(request_, SPECS)
    assert (refused.value.outcome.status, refused.value.field) == (422, field)
