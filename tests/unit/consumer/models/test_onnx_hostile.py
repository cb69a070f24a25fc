"""ONNX files that cannot be served: each is refused with a sentence that says why."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from consumer.models.load_errors import ModelCannotLoad, told_as_the_models
from consumer.runtimes.exported import onnx_file
from shared.model_config import ModelConfig, parse
from shared.settings import SettingsError
from tests.unit.consumer.models.onnx_files import (
    FLOAT,
    INT64,
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


def refusal(path: Path, **keys: Any) -> str:
    """The sentence that an operator reads."""
    with pytest.raises(ModelCannotLoad) as raised, told_as_the_models("file"):
        serve(path, **keys)
    said = str(raised.value)
    assert said.endswith(".")
    assert not said.endswith("..")
    assert "\n" not in said
    assert not raised.value._raised_by_the_model(), "no traceback: nobody's code failed"
    return said


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.onnx")
    assert "it is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "it is a pipe" in refusal(tmp_path / "pipe")
    assert "it is a device" in refusal(Path("/dev/zero"))
    assert "cannot be" in refusal(Path("a\0b"))
    assert "cannot be" in refusal(Path("a\ud800"))


@pytest.mark.parametrize("content", [b"", b"hello world, I am no model", b"\x80\x04cposix\nsystem\n", b"ORTM" * 9])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "no ONNX file" in refusal(path)


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, share: float) -> None:
    model = embedding()
    del model.opset_import[1:]  # a file that lost only the version of a domain that it does not use is a whole one
    content = model.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_served_but_never_anything_else(tmp_path: Path, place: int, byte: int) -> None:
    content = bytearray(embedding().SerializeToString())
    content[place % len(content)] = byte
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    try:
        model = serve(path)
    except ValueError:
        return
    assert len(model.run(model.sample_rows(3))) == 3


def test_names_that_are_no_text_are_refused_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = embedding().SerializeToString()
    path = tmp_path / "model.onnx"
    for name in (b"Gather", b"table", b"vectors", b"mask", b"Unsqueeze"):
        path.write_bytes(content.replace(name, b"\x80" + name[1:]))
        assert "a name in it is not UTF-8" in refusal(path)
    path.write_bytes(content.replace(b"Gather", b"Gathxr"))
    assert "Gathxr" in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_a_gigantic_file_is_refused_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 42)  # a hole
    monkeypatch.setattr("shared.files.read", None)
    assert "GiB of memory are free" in refusal(path)
    monkeypatch.setattr(onnx_file, "_check_memory", lambda size_bytes: None)
    assert "an ONNX file holds at most 2 GiB" in refusal(path)


def test_a_row_that_no_request_can_hold_is_refused(tmp_path: Path) -> None:
    assert "can be sent" in refusal(written(tmp_path, identity(FLOAT, ("n", 1 << 20, 1 << 20))))
    assert "its fixed batch of 1048576 rows" in refusal(written(tmp_path, identity(FLOAT, (1 << 20, 1 << 10))))
    assert "no request can have" in refusal(written(tmp_path, identity(FLOAT, ("n", 0))))


def _external(location: str, **entries: str) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    outputs = [value("y", FLOAT, ["n", 2])]
    return proto([node("Add", "x w", "y")], [value("x", FLOAT, ["n", 2])], outputs, tensors=[tensor])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights in a file beside the model's folder, which nobody may read through a model."""
    (tmp_path / "models" / "deep").mkdir(parents=True)
    np.array([10, 20], np.float32).tofile(tmp_path / "secret.bin")
    return tmp_path / "models"


@pytest.mark.parametrize(
    "location", ["../secret.bin", "deep/../../secret.bin", "{folder}/secret.bin", "link", "up/secret.bin"]
)
@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_weights_outside_of_the_files_folder_are_refused(weights: Path, location: str, runtime: str) -> None:
    (weights / "link").symlink_to("../secret.bin")
    (weights / "up").symlink_to("..")
    path = written(weights, _external(location.format(folder=weights.parent)))
    assert "which is not in the file's own folder" in refusal(path, runtime=runtime)


def test_external_tensors_are_found_wherever_they_hide(weights: Path) -> None:
    hidden = _external("../secret.bin").graph.initializer[0]
    constant = helper.make_node("Constant", [], ["w"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(hidden)
    branch = helper.make_graph([constant], "branch", [], [value("w", FLOAT, [2])])
    choice = helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch)
    io = ([value("x", FLOAT, ["n", 2])], [value("y", FLOAT, ["n", 2])])
    in_branch = proto([choice, node("Add", "x w", "y")], *io, {"yes": np.array(True)})
    function = helper.make_function("com.example", "Hide", [], ["w"], [constant], [helper.make_opsetid("", 17)])
    in_function = proto([node("Hide", "", "w", domain="com.example"), node("Add", "x w", "y")], *io)
    in_function.functions.append(function)
    for model in (in_branch, in_function):
        assert "which is not in the file's own folder" in refusal(written(weights, model))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_weights_beside_the_file_are_read_once(weights: Path, runtime: str) -> None:
    np.array([1, 2, 3], np.float32).tofile(weights / "deep" / "w.bin")
    path = written(weights, _external("deep/w.bin", offset="4", length="8"))
    model = serve(path, runtime=runtime)
    (weights / "deep" / "w.bin").write_bytes(b"")  # while it is served
    path.write_bytes(b"")
    assert answer(model, request(x=np.zeros((1, 2), np.float32)))["y"].tolist() == [[2, 3]]


def test_a_cache_of_models_may_hold_links_to_its_files(weights: Path) -> None:
    blobs, snapshot = weights / "blobs", weights / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    np.array([1, 2], np.float32).tofile(blobs / "b2")
    written(blobs, _external("model.onnx_data"), "b1")
    (snapshot / "model.onnx").symlink_to("../blobs/b1")
    (snapshot / "model.onnx_data").symlink_to("../blobs/b2")
    found = answer(serve(snapshot / "model.onnx"), request(x=np.zeros((1, 2), np.float32)))
    assert found["y"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"location": "none.bin"}, "No such file"),
        ({"location": "deep"}, "it is a folder"),
        ({"location": "w.bin", "offset": "4"}, "cut short|ONNX Runtime cannot open"),
        ({"location": "w.bin", "length": "9"}, "cut short"),
        ({"location": "w.bin", "offset": "-4", "length": "8"}, "cut short"),
        ({"location": "w.bin", "offset": "x"}, "no place where its data lie"),
        ({"location": ""}, "own folder"),
    ],
)
def test_weights_that_are_not_there_are_refused(weights: Path, entries: dict[str, str], said: str) -> None:
    np.array([1, 2], np.float32).tofile(weights / "w.bin")
    assert any(one in refusal(written(weights, _external(**entries))) for one in said.split("|"))


def _of_type(change: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    model = doubling()
    change(model)
    return model


def _sequence(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", FLOAT, [None, 2]))


def _optional(model: onnx.ModelProto) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ["n", 2]))
    model.graph.input[0].CopyFrom(helper.make_value_info("x", kind))


def _map(model: onnx.ModelProto) -> None:
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    model.graph.output[0].CopyFrom(helper.make_value_info("y", kind))


def _sixteen(model: onnx.ModelProto) -> None:
    for one in (model.graph.input[0], model.graph.output[0]):
        one.type.tensor_type.elem_type = TensorProto.BFLOAT16


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (_of_type(_sequence), "input x is declared as sequence, and only tensors can be sent"),
        (_of_type(_optional), "input x is declared as optional"),
        (_of_type(_map), "output y is declared as map, and only tensors can be sent; a converter of scikit-learn"),
        (_of_type(_sixteen), "input x is of BFLOAT16, which requests and answers cannot hold; add a Cast"),
        (identity(FLOAT, ()), "input x has no first dimension"),
        (proto([node("Constant", "", "y", value_floats=[1.0])], [], [value("y", FLOAT, [1])]), "it takes no inputs"),
        (
            proto(
                [node("Foo", "x", "y", domain="com.example")], [value("x", FLOAT, ["n"])], [value("y", FLOAT, ["n"])]
            ),
            "Foo",
        ),
        (proto([node("Foo", "x", "y")], [value("x", FLOAT, ["n"])], [value("y", FLOAT, ["n"])]), "Foo"),
        (
            proto(
                [node("Add", "x z", "y")],
                [value("x", FLOAT, [2, 1]), value("z", FLOAT, [3, 1])],
                [value("y", FLOAT, None)],
            ),
            "disagree about the number of rows",
        ),
        (
            proto(
                [node("Identity", f"x{i}", f"y{i}") for i in range(65)],
                [value(f"x{i}", FLOAT, ["n"]) for i in range(65)],
                [value("y0", FLOAT, ["n"])],
            ),
            "it has 65 inputs, and a request can have 64",
        ),
    ],
    ids=["sequence", "optional", "map", "bfloat16", "scalar", "no inputs", "custom", "unknown", "rows", "many"],
)
def test_what_cannot_be_asked_or_run_is_refused(tmp_path: Path, model: onnx.ModelProto, said: str) -> None:
    assert said in refusal(written(tmp_path, model))


def test_an_output_that_is_not_one_per_row_is_refused(tmp_path: Path) -> None:
    total = proto([node("ReduceSum", "x", "y", keepdims=0)], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, [])])
    assert "its output y has the shape [] for 1 row: the first dimension" in refusal(written(tmp_path, total))
    flat = proto([node("Flatten", "x", "y", axis=0)], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, None)])
    assert "its output y has the shape [1, 6] for 3 rows" in refusal(written(tmp_path, flat))


def test_a_file_that_mixes_rows_is_refused_unless_rows_run_alone(tmp_path: Path) -> None:
    mixing = proto([node("Softmax", "x", "y", axis=0)], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, ["n", 2])])
    path = written(tmp_path, mixing)
    assert "changes with the rows that are run beside it" in refusal(path)
    model = serve(path, max_batch=1)
    assert answer(model, request(x=np.array([[1, 2], [3, 4]], np.float32)))["y"].tolist() == [[1, 1], [1, 1]]


def test_a_file_that_scales_batches_is_served_though_rows_touch(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    weights = {f"w{i}": np.random.default_rng(i).normal(size=(64, 64)).astype(np.float32) / 8 for i in range(3)}
    nodes = [node("MatMul", f"x{i} w{i}", f"x{i + 1}") for i in range(3)]
    plain = proto(nodes, [value("x0", FLOAT, ["n", 64])], [value("x3", FLOAT, ["n", 64])], weights)
    logging.disable(logging.WARNING)  # the tool's advice
    try:
        quantize_dynamic(str(written(tmp_path, plain)), str(tmp_path / "small.onnx"))
    finally:
        logging.disable(logging.NOTSET)
    assert onnx_file.read(tmp_path / "small.onnx").scales_batches
    assert len(serve(tmp_path / "small.onnx").sample_rows(2)) == 2


def test_answers_by_chance_are_not_taken_for_a_mixture(tmp_path: Path) -> None:
    dice = proto(
        [node("RandomNormalLike", "x", "noise"), node("Add", "x noise", "y")],
        [value("x", FLOAT, ["n", 2])],
        [value("y", FLOAT, ["n", 2])],
    )
    assert len(serve(written(tmp_path, dice)).run([(np.zeros(2, np.float32),)] * 2)) == 2


def test_a_file_that_made_up_inputs_do_not_suit_asks_for_real_ones(tmp_path: Path) -> None:
    nodes = [node("Sub", "x least", "id"), node("Gather", "table id", "y")]
    picky = proto(
        nodes,
        [value("x", INT64, ["n"])],
        [value("y", FLOAT, ["n"])],
        {"least": np.array(100), "table": np.ones(3, np.float32)},
    )
    path = written(tmp_path, picky)
    assert "name an .npz file with real ones as samples" in refusal(path)
    np.savez(tmp_path / "rows.npz", x=np.array([101, 102]))
    assert serve(path, samples=str(tmp_path / "rows.npz")).sample_rows(1) == [(101,)]


def test_a_declared_shape_that_is_wrong_is_not_passed_on(tmp_path: Path) -> None:
    lying = proto([node("Identity", "x", "y")], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, ["n", "m", "k"])])
    assert serve(written(tmp_path, lying)).describe().outputs[0].shape == (-1,)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32", "int8"])
def test_a_precision_is_not_chosen_for_a_file(tmp_path: Path, precision: str) -> None:
    from consumer.models.families import build

    model = build("file", ModelConfig(family="onnx", weights=str(written(tmp_path, doubling()))))
    assert model.precisions("cpu") == ("fp32",)
    with pytest.raises(ValueError, match=f"so {precision} cannot be asked for; leave precision at auto"):
        model.load("cpu", precision)


def test_a_gpu_is_refused_where_the_runtime_cannot_use_it(tmp_path: Path) -> None:
    import onnxruntime

    from consumer.models.families import build

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("it can")
    model = build("file", ModelConfig(family="onnx", weights=str(written(tmp_path, doubling()))))
    with pytest.raises(ValueError, match="has no CUDA provider; install onnxruntime-gpu"):
        model.load("cuda", "fp32")


def test_a_table_without_a_file_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"models\.a\.weights is missing: family 'onnx' needs the path of an ONNX file"
    ):
        parse('[models.a]\nfamily = "onnx"')
