"""What is wrong with a request: one sentence that names the field, the right code, and nobody else disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from . import calls
from .calls import request
from .site import ECHO, MIXED, Site


def changed(change: Callable[[Any], object], **more: Any) -> bytes:
    made = request(ECHO, **more)
    change(made)
    message: bytes = made.SerializeToString()
    return message


def extra(made: Any) -> None:
    made.raw_input_contents.append(b"more")


REFUSED = {
    "negative shape": (changed(lambda made: None, shape=(1, -3)), "inputs[0].shape: A size in a shape must be"),
    "overflowing shape": (changed(lambda made: None, shape=(1, 1 << 62)), "inputs[0].shape: A size in a shape must be"),
    "shapes whose product overflows": (
        changed(lambda made: None, shape=(1, (1 << 31) - 1)),
        "Shape [1, 2147483647] of UINT8 takes 2147483647 bytes, but data holds 3.",
    ),
    "too many dimensions": (changed(lambda made: None, shape=(1,) * 17), "at most 16 sizes"),
    "no rows": (changed(lambda made: None, shape=(0, 3)), "inputs[0].shape: Input input is empty."),
    "lying shape": (changed(lambda made: None, shape=(1, 4)), "takes 4 bytes, but data holds 3"),
    "another datatype": (changed(lambda made: None, datatype="INT8"), "inputs[0].datatype: Input input takes UINT8."),
    "no datatype": (changed(lambda made: None, datatype=""), "inputs[0].datatype"),
    "another input": (changed(lambda made: setattr(made.inputs[0], "name", "x")), "inputs[0].name: The model has no"),
    "no input": (changed(lambda made: (made.inputs.pop(), made.raw_input_contents.pop())), "inputs: A request has 1"),
    "too few raw contents": (changed(lambda made: made.inputs.add(name="b")), "raw_input_contents: There must be one"),
    "too many raw contents": (changed(extra), "raw_input_contents: There must be one for each of the 1 inputs"),
    "raw and typed contents": (
        changed(lambda made: made.inputs[0].contents.uint_contents.append(1)),
        "inputs[0].contents: It has contents beside raw_input_contents",
    ),
    "no contents": (changed(lambda made: None, raw=None), "takes 3 bytes, but data holds 0"),
    "typed contents in the wrong member": (
        changed(lambda made: made.inputs[0].contents.int_contents.extend([1, 2, 3]), raw=None),
        "inputs[0].contents: Contents of UINT8 belong into uint_contents, not int_contents.",
    ),
    "typed contents out of range": (
        changed(lambda made: made.inputs[0].contents.uint_contents.extend([1, 2, 256]), raw=None),
        "inputs[0].contents.uint_contents: An element is out of range for UINT8.",
    ),
    "another output": (changed(lambda made: made.outputs.add(name="y")), "outputs[0].name: The model has no output"),
    "classes of no classifier": (
        changed(
            lambda made: made.outputs.add(name="output").parameters["classification"].__setattr__("int64_param", 3)
        ),
        "outputs[0].parameters.classification: Output output has no classes",
    ),
    "unknown parameter": (
        changed(lambda made: made.parameters["colour"].__setattr__("string_param", "red")),
        "parameters.colour: There is no such parameter; it has timeout, priority",
    ),
    "unknown parameter of an input": (
        changed(lambda made: made.inputs[0].parameters["x"].__setattr__("bool_param", True)),
        "inputs[0].parameters.x: There is no such parameter; there are none.",
    ),
    "a timeout that is no number": (
        changed(lambda made: made.parameters["timeout"].__setattr__("string_param", "soon")),
        "parameters.timeout: It must be a whole number",
    ),
    "a timeout that is too long": (
        changed(lambda made: made.parameters["timeout"].__setattr__("int64_param", 1 << 62)),
        "parameters.timeout: A timeout may be",
    ),
    "a negative timeout": (
        changed(lambda made: made.parameters["timeout"].__setattr__("int64_param", -1)),
        "parameters.timeout: It must be a whole number",
    ),
    "a long id": (changed(lambda made: setattr(made, "id", "i" * 1025)), "id: An id may have 1024 bytes."),
    "no model": (changed(lambda made: setattr(made, "model_name", "")), "model_name: The request names no model."),
    "no protobuf": (b"\xff\xff\xff", "The message is not a valid ModelInferRequest: a number is cut off"),
    "an empty message": (b"", "model_name: The request names no model."),
    "thousands of fields": (b"\x2a\x00" * 5000, "The request has more than 512 fields."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_makes_no_sense_is_refused(served: Site, name: str) -> None:
    message, said = REFUSED[name]
    code, text = calls.status(served.target, message)
    assert said in text
    assert code == "INVALID_ARGUMENT"


def test_bytes_elements_must_be_framed(served: Site) -> None:
    made = request(MIXED)
    del made.inputs[:]
    del made.raw_input_contents[:]
    for name, datatype, shape, raw in (
        ("single", "FP32", (1, 2), bytes(8)),
        ("half", "FP16", (1, 2), bytes(4)),
        ("whole", "INT64", (1, 1), bytes(8)),
        ("text", "BYTES", (1, 1), b"\xff\xff\xff\xffabc"),
    ):
        made.inputs.add(name=name, datatype=datatype, shape=shape)
        made.raw_input_contents.append(raw)
    code, text = calls.status(served.target, made.SerializeToString())
    assert (code, text) == ("INVALID_ARGUMENT", "inputs[3].data: data does not hold 1 BYTES elements.")


@pytest.mark.parametrize(
    ("made", "code", "said"),
    [
        (request("grpc-nothing"), "NOT_FOUND", "There is no model 'grpc-nothing'"),
        (request("../etc"), "NOT_FOUND", "There is no model '../etc'"),
        (request("n" * 5000), "NOT_FOUND", "There is no model"),
    ],
)
def test_a_model_that_is_not_there(served: Site, made: Any, code: str, said: str) -> None:
    found = calls.status(served.target, made.SerializeToString())
    assert found[0] == code
    assert said in found[1]
    assert len(found[1]) < 300


def test_a_version_that_is_not_there(served: Site) -> None:
    made = request(ECHO)
    made.model_version = "77"
    code, text = calls.status(served.target, made.SerializeToString())
    assert (code, text) == ("NOT_FOUND", f"Model '{ECHO}' has no version '77'; it has 1.")
    made.model_version = "1"
    assert calls.status(served.target, made.SerializeToString()) == ("OK", "")


@pytest.mark.parametrize("name", ["shared_memory_region", "shared_memory_byte_size"])
def test_shared_memory_is_unsupported(served: Site, name: str) -> None:
    made = request(ECHO, raw=None)
    made.inputs[0].parameters[name].string_param = "region"
    code, text = calls.status(served.target, made.SerializeToString())
    assert code == "UNIMPLEMENTED"
    assert "Shared memory" in text


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("RepositoryModelLoad", "Models are loaded by consumers"),
        ("SystemSharedMemoryRegister", "There is no shared memory with clients"),
        ("TraceSetting", "HEADRACE_TRACING"),
        ("LogSettings", "HEADRACE_LOG_LEVEL"),
        ("ModelInferLater", "There is no method '/inference.GRPCInferenceService/ModelInferLater' here."),
        ("/grpc.health.v1.Health/Check", "There is no method '/grpc.health.v1.Health/Check' here."),
        ("/" + "x" * 2000, "There is no method '/xxx"),
    ],
)
def test_a_method_that_is_not_there(served: Site, method: str, said: str) -> None:
    code, text = calls.status(served.target, b"", method)
    assert code == "UNIMPLEMENTED"
    assert said in text


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"])
def test_the_other_methods_refuse_what_is_no_message(served: Site, method: str) -> None:
    code, text = calls.status(served.target, b"\xff\xff", method)
    assert code == "INVALID_ARGUMENT"
    assert f"The message is not a valid {method}Request" in text


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_message_beyond_the_limit_is_refused_compressed_or_not(served: Site, compression: Any) -> None:
    size = 17 << 20
    message = request(ECHO, shape=(1, size), raw=bytes(size)).SerializeToString()
    code, text = calls.status(served.target, message, compression=compression)
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in text
    assert calls.status(served.target, request(ECHO).SerializeToString()) == ("OK", "")


def test_typed_contents_of_any_size_are_taken(served: Site) -> None:
    for count in (3, 300_000):
        made = request(ECHO, shape=(1, count), raw=None)
        made.inputs[0].contents.uint_contents.extend(value % 256 for value in range(count))
        with calls.channel(served.target) as own:
            found = calls.answer(own.unary_unary(calls.SERVICE + "ModelInfer")(made.SerializeToString(), timeout=20))
        assert found.raw_output_contents[0] == bytes(value % 256 for value in range(count))
