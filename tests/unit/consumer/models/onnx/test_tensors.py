"""Family onnx: tensors of any kind in and out, in batches that leave each answer alone."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from consumer.models.base import RAW
from consumer.models.own.examples import guessed
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, UNSUPPORTED_MEDIA_TYPE, RequestError
from tests.unit.consumer.models.onnx_files import (
    BOOL,
    DATATYPES,
    FLOAT,
    INT64,
    STRING,
    answer,
    doubling,
    embedding,
    identity,
    node,
    proto,
    request,
    serve,
    value,
    written,
)

NUMBERS = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@pytest.mark.parametrize("kind", NUMBERS)
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_of_every_datatype_come_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    model = _IDENTITIES.get(kind)
    if model is None:
        folder = tmp_path_factory.mktemp("identity")
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        model = _IDENTITIES[kind] = serve(written(folder, identity(element, ("n", None, 2))))
    assert model.describe().inputs[0].datatype == DATATYPES[kind]
    rows, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    sent = data.draw(arrays_of.arrays(np.dtype(kind), (rows, length, 2)))
    found = answer(model, request(x=sent))["y"]
    assert found.shape == sent.shape
    assert found.tobytes() == sent.tobytes()


_IDENTITIES: dict[str, Any] = {}


@given(texts=st.lists(st.text(max_size=9), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    model = _IDENTITIES.get("text")
    if model is None:
        model = _IDENTITIES["text"] = serve(written(tmp_path_factory.mktemp("text"), identity(STRING, ("n",))))
    packed = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    asked = Request("r", 1000, inputs=(Tensor("x", "BYTES", (len(texts),), packed),))
    [output] = model.postprocess(model.run(model.preprocess(asked)), asked).outputs or ()
    assert (output.datatype, output.shape, output.data) == ("BYTES", (len(texts),), packed)


def test_inputs_and_outputs_are_those_of_the_file(tmp_path: Path) -> None:
    description = serve(written(tmp_path, embedding())).describe()
    assert [(one.name, one.datatype, one.shape) for one in description.inputs] == [
        ("ids", "INT64", (-1,)),
        ("mask", "FP32", (-1,)),
    ]
    assert [(one.name, one.datatype, one.shape) for one in description.outputs] == [
        ("mean", "FP32", (3,)),
        ("count", "FP32", ()),
    ]
    assert description.content_types == ()


def test_several_inputs_are_matched_by_name(tmp_path: Path) -> None:
    model = serve(written(tmp_path, embedding()))
    found = answer(model, request(mask=np.ones((1, 2), np.float32), ids=np.array([[1, 3]])))
    assert found["mean"].tolist() == [[6, 7, 8]]
    assert found["count"].tolist() == [2]


def test_rows_of_different_lengths_in_one_batch_are_answered_as_if_alone(tmp_path: Path) -> None:
    model = serve(written(tmp_path, embedding()))
    random = np.random.default_rng(3)
    asked = [
        request(ids=random.integers(0, 10, (rows, length)), mask=np.ones((rows, length), np.float32))
        for rows, length in ((1, 3), (2, 5), (3, 3), (1, 1))
    ]
    shares = [model.preprocess(one) for one in asked]
    outputs = model.run([row for rows in shares for row in rows])
    for one, rows in zip(asked, shares, strict=True):
        result = model.postprocess(outputs[: len(rows)], one)
        outputs = outputs[len(rows) :]
        alone = model.postprocess(model.run(rows), one)
        assert [(tensor.shape, tensor.data) for tensor in result.outputs or ()] == [
            (tensor.shape, tensor.data) for tensor in alone.outputs or ()
        ]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_file_of_a_fixed_batch_serves_any_number_of_rows(tmp_path: Path, rows: int) -> None:
    model = serve(written(tmp_path, doubling(rows)))
    before = model.padded_rows()
    for count in (1, 2, 3, 4, 7):
        sent = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
        assert np.array_equal(answer(model, request(x=sent))["y"], 2 * sent)
    assert model.padded_rows() - before == sum(-count % rows for count in (1, 2, 3, 4, 7))


def test_raw_bytes_are_rows_of_a_single_input_of_fixed_size(tmp_path: Path) -> None:
    model = serve(written(tmp_path, doubling()))
    assert model.describe().content_types == (RAW,)
    body = np.arange(4, dtype=np.float32)
    assert answer(model, Request("r", 1000, RAW, body.tobytes()))["y"].tolist() == [[0, 2], [4, 6]]
    for content_type, wrong, outcome in (
        (RAW, body.tobytes()[:-1], INVALID_INPUT),
        (RAW, b"", INVALID_INPUT),
        ("image/png", body.tobytes(), UNSUPPORTED_MEDIA_TYPE),
    ):
        with pytest.raises(RequestError) as raised:
            model.preprocess(Request("r", 1000, content_type, wrong))
        assert raised.value.outcome is outcome


def test_several_inputs_take_no_raw_body(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="This model takes tensors, not"):
        serve(written(tmp_path, embedding())).preprocess(Request("r", 1000, RAW, b"1234"))


def test_a_truth_value_that_is_neither_true_nor_false_is_refused(tmp_path: Path) -> None:
    model = serve(written(tmp_path, identity(BOOL, ("n", 3))))
    assert answer(model, request(x=np.array([[True, False, True]])))["y"].tolist() == [[True, False, True]]
    for sent in (
        Request("r", 1000, inputs=(Tensor("x", "BOOL", (1, 3), b"\0\2\1"),)),
        Request("r", 1000, RAW, b"\1\1\xff"),
    ):
        with pytest.raises(RequestError, match="0 or 1"):
            model.preprocess(sent)


def test_what_a_row_refuses_the_others_do_not_notice(tmp_path: Path) -> None:
    """An id outside of the vocabulary fails where it is run; the stages then run the halves of the batch."""
    model = serve(written(tmp_path, embedding()))
    good = model.preprocess(request(ids=np.array([[1, 3]]), mask=np.ones((1, 2), np.float32)))
    bad = model.preprocess(request(ids=np.array([[1, 99]]), mask=np.ones((1, 2), np.float32)))
    with pytest.raises(ValueError, match="out of data bounds"):
        model.run([*good, *bad])
    assert model.run(good)[0][0].tolist() == [6, 7, 8]


def test_samples_are_rows_that_the_file_takes_and_always_the_same(tmp_path: Path) -> None:
    one, other = (serve(written(tmp_path, embedding())) for _ in range(2))
    rows = one.sample_rows(70)
    assert len(rows) == len(one.run(rows)) == 70
    assert all(
        np.array_equal(mine, theirs)
        for row, same in zip(rows, other.sample_rows(70), strict=True)
        for mine, theirs in zip(row, same, strict=True)
    )
    assert np.concatenate([ids for ids, _ in rows]).max() <= 1


def test_free_sizes_of_pictures_are_found_by_trying(tmp_path: Path) -> None:
    weight = np.ones((2, 3, 40, 40), np.float32)
    pool = proto(
        [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "y")],
        [value("x", FLOAT, ["n", 3, "h", "w"])],
        [value("y", FLOAT, ["n", 2])],
        {"w": weight},
    )
    assert serve(written(tmp_path, pool)).sample_rows(1)[0][0].shape == (3, 64, 64)


def test_samples_take_no_memory_that_is_only_declared(tmp_path: Path) -> None:
    """Sizes that may be any in five dimensions: 64 in each would be 4 GiB a row. A row that is large is made once."""
    free = serve(written(tmp_path, identity(FLOAT, ("n", None, None, None, None, None))))
    assert sum(row[0].nbytes for row in free.sample_rows(32)) < 64 << 20
    large = serve(written(tmp_path, identity(FLOAT, ("n", 5 << 20))), max_batch=2)
    assert large.sample_rows(4)[3][0].nbytes == 20 << 20
    assert len({id(row[0]) for row in large.sample_rows(32)}) == 3


def test_samples_of_the_users_own_come_from_an_npz_file(tmp_path: Path) -> None:
    path = written(tmp_path, embedding())
    ids = np.array([[7, 8, 9], [1, 2, 3]])
    np.savez(tmp_path / "rows.npz", ids=ids, mask=np.ones((2, 3)))
    rows = serve(path, samples=str(tmp_path / "rows.npz")).sample_rows(3)
    assert [row[0].tolist() for row in rows] == [[7, 8, 9], [1, 2, 3], [7, 8, 9]]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"ids": np.array([[1]])}, "have no array for input mask"),
        ({"ids": np.array([1]), "mask": np.ones((1, 1))}, r"have the shape \[1\] for input ids"),
        ({"ids": np.ones((1, 1)), "mask": np.ones((1, 1))}, "have float64 for input ids, not INT64"),
        ({"ids": np.array([[1], [2]]), "mask": np.ones((1, 1))}, "the same number of rows"),
        ({"ids": np.array([[object()]]), "mask": np.ones((1, 1))}, "are not an .npz file of plain arrays"),
        (b"PK no zip", "are not an .npz file"),
        (None, "cannot be read: No such file"),
    ],
)
def test_samples_that_do_not_fit_are_refused_with_a_sentence(tmp_path: Path, made: Any, said: str) -> None:
    samples = tmp_path / "rows.npz"
    if isinstance(made, bytes):
        samples.write_bytes(made)
    elif made is not None:
        np.savez(samples, **made)
    with pytest.raises(ValueError, match=said):
        serve(written(tmp_path, embedding()), samples=str(samples))


def test_a_sample_becomes_a_request_to_copy(tmp_path: Path) -> None:
    for file in (embedding(), doubling(), identity(STRING, ("n", 2)), identity(STRING, ("n",))):
        model = serve(written(tmp_path, file))
        asked = guessed(model.sample_rows(1)[0], model.describe())
        assert asked is not None
        assert len(model.preprocess(asked)) == 1


def test_memory_that_runs_out_is_told_as_that(tmp_path: Path) -> None:
    file = proto(
        [node("Squeeze", "x first", "size"), node("ConstantOfShape", "size", "y")],
        [value("x", INT64, [1, "k"])],
        [value("y", FLOAT, None)],
        {"first": np.array([0])},
    )
    np.savez(tmp_path / "rows.npz", x=np.array([[1, 2]]))
    model = serve(written(tmp_path, file), samples=str(tmp_path / "rows.npz"))
    with pytest.raises(MemoryError):
        model.run(model.preprocess(request(x=np.array([[1, 10**6, 10**6]]))))
    with pytest.raises(ValueError, match="for 1 rows"):
        model.run(model.preprocess(request(x=np.array([[2, 2]]))))
    other_rank = request(x=np.array([[1, 2, 3]]))
    with pytest.raises(RequestError, match=r"row has the shape \[2, 3\], not \[-1\]") as raised:
        model.postprocess(model.run(model.preprocess(other_rank)), other_rank)
    assert raised.value.outcome is MODEL_ERROR


def test_numbers_that_are_not_finite_are_passed_on(tmp_path: Path) -> None:
    """In JSON they become null, as for every model."""
    file = proto([node("Log", "x", "y")], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, ["n", 2])])
    found = answer(serve(written(tmp_path, file)), request(x=np.array([[0, -1]], np.float32)))["y"]
    assert np.isneginf(found[0, 0])
    assert np.isnan(found[0, 1])


def test_openvino_runs_a_file_where_it_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = written(tmp_path, embedding())
    asked = request(ids=np.array([[1, 3], [4, 5]]), mask=np.ones((2, 2), np.float32))
    model, plain = serve(path, runtime="openvino"), serve(path)
    assert model.runtime() == ("openvino", "openvino was asked for, and agrees with onnxruntime.")
    assert plain.runtime()[0] == "onnxruntime"
    for name, found in answer(model, asked).items():
        assert np.allclose(found, answer(plain, asked)[name])


def test_what_openvino_cannot_run_onnxruntime_serves_and_says_why(tmp_path: Path) -> None:
    name, reason = serve(written(tmp_path, identity(STRING, ("n",))), runtime="openvino").runtime()
    assert name == "onnxruntime"
    assert reason.startswith("openvino was asked for, but cannot run the file: ")
    assert serve(written(tmp_path, doubling()), runtime="torch").runtime() == (
        "onnxruntime",
        "torch does not run ONNX files; onnxruntime serves.",
    )


def test_torch_is_not_imported(tmp_path: Path) -> None:
    pictures = written(tmp_path, _pictures(), "pictures.onnx")
    code = f"""
import sys
from pathlib import Path
from consumer.__main__ import main
from consumer.loading.devices import pick_device
from tests.unit.consumer.models.onnx_files import serve
assert pick_device("auto", "onnx") == "cpu"
tensors = serve(Path({str(written(tmp_path, embedding()))!r}))
model = serve(Path({str(pictures)!r}), labels="imagenet-1k")
for model in (tensors, model):
    model.run(model.sample_rows(3))
assert model.describe().labels[281] == "tabby"
print(sorted(one for one in ("torch", "torchvision", "timm") if one in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _pictures() -> onnx.ModelProto:
    from tests.unit.consumer.models.onnx_files import classifier

    return classifier(classes=1000)
