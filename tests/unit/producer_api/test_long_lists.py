"""Lists that are packed a piece at a time come out, and are refused, as those that are packed at once."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_api.inference import tensors
from producer_api.inference.tensors import check_inputs_in_steps
from producer_api.parsing import json_lists, packed_lists
from producer_api.parsing.schemas import InputTensor, MsgpackTensor
from producer_api.parsing.steps import at_once
from shared.state.cards import TensorSpec
from shared.wire.outcomes import RequestError
from tests.fakes import card

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "FP32": st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-99, 99),
    "FP64": st.floats(allow_nan=False, allow_infinity=False),
    "INT16": st.integers(-(2**15), 2**15 - 1),
    "UINT64": st.integers(0, 2**64 - 1),
    "BOOL": st.booleans(),
    "BYTES": st.text(max_size=5) | st.sampled_from(['"', "\\", ",", "]", "[", '","', "\\\\", "ä€😀"]),
}
WRONG: st.SearchStrategy[Any] = st.sampled_from([None, {}, [], [1], "x", 1.5, 2**70, True, {"a": [1]}])


def nested(flat: list[Any], shape: list[int]) -> Any:
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat


def outcome(tensor: InputTensor | MsgpackTensor, shape: list[int]) -> Any:
    one = card("m", [TensorSpec("x", tensor.datatype, tuple(shape[1:]))], max_batch=1 << 20)
    try:
        return at_once(check_inputs_in_steps([tensor], one))[0].data
    except RequestError:
        return "refused"


@pytest.mark.parametrize("kind", ["json", "msgpack"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pieces_and_the_whole_agree(kind: str, data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(sorted(VALUES)))
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    count = 1
    for size in shape:
        count *= size
    flat = data.draw(st.lists(VALUES[datatype], min_size=count, max_size=count))
    if data.draw(st.booleans()):
        flat[data.draw(st.integers(0, count - 1))] = data.draw(WRONG)
    if data.draw(st.integers(0, 5)) == 0:
        flat = flat[:-1]
    values = nested(flat, shape) if data.draw(st.booleans()) else flat
    document = {"name": "x", "shape": shape, "datatype": datatype, "data": values}
    tensor: InputTensor | MsgpackTensor
    try:
        if kind == "json":
            text = json.dumps(document, indent=data.draw(st.none() | st.just(1)), ensure_ascii=data.draw(st.booleans()))
            tensor = msgspec.json.decode(text, type=InputTensor)
        else:
            tensor = msgspec.msgpack.decode(msgpack.packb(document), type=MsgpackTensor)
    except (msgspec.DecodeError, OverflowError):
        return
    whole = outcome(tensor, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "LONG_BYTES", 0)
        patch.setattr(json_lists, "PIECE_BYTES", data.draw(st.integers(1, 9)))
        patch.setattr(packed_lists, "AT_ONCE", data.draw(st.integers(1, 9)))
        patch.setattr(packed_lists, "TEXTS_AT_ONCE", data.draw(st.integers(1, 3)))
        assert outcome(tensor, shape) == whole


@pytest.mark.parametrize(
    "text",
    [b"[1,2,]", b"[,1,2]", b"[1,,2]", b"[1 2]", b"[1,2", b"1,2]", b"[1,2]]", b"[[1,2]", b"[1],[2]", b"[1,2}", b"[ , ]",
     b"[1,\n \t]", b'["1",2]', b"[01,2]", b"[1,NaN]"],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 2, 100])
def test_what_is_no_list_is_refused_wherever_it_is_cut(
    text: bytes, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "LONG_BYTES", 0)
    monkeypatch.setattr(json_lists, "PIECE_BYTES", piece)
    tensor = InputTensor("x", [2], "FP32", msgspec.Raw(text))
    assert outcome(tensor, [2]) == "refused"


@pytest.mark.parametrize(
    "text",
    [b"[[1,2],[3,4],]", b"[[1,2],[,3]]", b"[1[2,3],[4,5]]", b"[[1,2]9,[3,4]]", b"[[1,2],[3,4]", b"[[1,2][3,4]]",
     b"[[1,2,],[3]]", b"[[1],[2,3,4]]", b"[[[1,2]],[3,4]]", b"[[1,2],[3 4]]"],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_what_is_not_nested_rightly_is_refused(text: bytes, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "LONG_BYTES", 0)
    monkeypatch.setattr(json_lists, "PIECE_BYTES", piece)
    tensor = InputTensor("x", [2, 2], "FP32", msgspec.Raw(text))
    assert outcome(tensor, [2, 2]) == "refused"
