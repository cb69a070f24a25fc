"""Bodies from strangers: each ends with one sentence and leaves the front end as it was."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from typing import Any

import pytest

from shared.settings import Settings
from tests.e2e.open_inference.conftest import Place

MOST_BYTES = Settings().max_body_bytes
LENGTH = "Inference-Header-Content-Length"


def ask(place: Place, model: str, body: bytes, **headers: str) -> tuple[int, str, Any]:
    host, _, port = place.address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", f"/v2/models/{model}/infer", body, named)
        answer = connection.getresponse()
        data, length = answer.read(), answer.getheader(LENGTH)
        document = json.loads(data if length is None else data[: int(length)])
        return answer.status, document.get("error", ""), document
    finally:
        connection.close()


def document(**changes: Any) -> bytes:
    """A request to echo with one change."""
    given = {"name": "input", "shape": [1, 3], "datatype": "UINT8", "data": [1, 2, 3], **changes}
    return json.dumps({"inputs": [{name: value for name, value in given.items() if value is not None}]}).encode()


def binary(size: int, **changes: Any) -> bytes:
    return document(data=None, parameters={"binary_data_size": size}, **changes)


@pytest.mark.parametrize(
    ("size", "tail", "text"),
    [
        (4, b"abc", "inputs[0].parameters.binary_data_size: 4 bytes of binary data are announced, but 3 are left"),
        (2, b"abc", "body: 1 bytes follow the data of the last input"),
        (0, b"", "inputs[0].data: Shape [1, 3] of UINT8 takes 3 bytes"),
        (2**62, b"abc", "inputs[0].parameters.binary_data_size: 4611686018427387904 bytes"),
        (2**64, b"abc", "inputs[0].parameters.binary_data_size: "),
        (-1, b"abc", "inputs[0].parameters.binary_data_size: Expected 'int' >= 0"),
    ],
)
def test_a_lying_binary_data_size(place: Place, size: int, tail: bytes, text: str) -> None:
    head = binary(size)
    status, error, _ = ask(place, place.echo, head + tail, **{LENGTH: str(len(head))})
    assert (status, error[: len(text)]) == (400, text)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        ("9999", f"{LENGTH}: {LENGTH} is 9999, but the body has "),
        ("-1", f"{LENGTH}: {LENGTH} must be the number of bytes of the JSON."),
        ("1e3", f"{LENGTH}: {LENGTH} must be the number of bytes of the JSON."),
        ("9" * 40, f"{LENGTH}: {LENGTH} must be the number of bytes of the JSON."),
        ("5", "body: The body does not begin with valid JSON"),
    ],
)
def test_a_header_length_that_is_none(place: Place, length: str, text: str) -> None:
    status, error, _ = ask(place, place.echo, binary(3) + b"abc", **{LENGTH: length})
    assert (status, error[: len(text)]) == (400, text)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shape": [-1, 3]}, "inputs[0].shape[0]: Expected 'int' >= 0"),
        ({"shape": [1, -3]}, "inputs[0].shape[1]: Expected 'int' >= 0"),
        ({"shape": [2**31, 3]}, "inputs[0].shape[0]: Expected 'int' <= 2147483647"),
        ({"shape": [2**80, 3]}, "inputs[0].shape[0]: "),
        ({"shape": [1, 2**31 - 1]}, "inputs[0].data: Data holds 3 elements, but the shape takes 2147483647"),
        ({"shape": [1] * 17}, "inputs[0].shape: Expected 'array' of length <= 16"),
        ({"shape": [0, 3]}, "inputs[0].shape: Input input is empty"),
        ({"shape": [100000, 3]}, "inputs[0].shape: The model takes at most"),
        ({"shape": "1,3"}, "inputs[0].shape: Expected 'array'"),
        ({"datatype": "FP8"}, "inputs[0].datatype: Input input takes UINT8"),
        ({"datatype": "BF16"}, "inputs[0].datatype: BF16 can only be sent as binary data"),
        ({"name": "x" * 2000}, "inputs[0].name: Expected 'str' of length <= 1024"),
        ({"data": None}, "inputs[0].data: An input has data, or binary_data_size"),
        ({"data": [1, 2, 300]}, "inputs[0].data[2]: Expected 'int' <= 255"),
        ({"data": [1, 2, None]}, "inputs[0].data[2]: Expected 'int'"),
        ({"data": "abc"}, "inputs[0].data: Expected 'array'"),
        ({"parameters": {"binary_data_size": 3}}, "inputs[0].parameters.binary_data_size: An input has data or"),
        ({"parameters": {"colour": 3}}, "inputs[0].parameters: Object contains unknown field 'colour'"),
        ({"colour": 3}, "inputs[0]: Object contains unknown field 'colour'"),
    ],
)
def test_an_input_that_is_none(place: Place, changes: Any, text: str) -> None:
    status, error, _ = ask(place, place.echo, document(**changes))
    assert (status, error[: len(text)]) == (400, text)


def test_shared_memory_is_not_supported(place: Place) -> None:
    region = {"shared_memory_region": "a", "shared_memory_byte_size": 3}
    status, error, _ = ask(place, place.echo, document(data=None, parameters=region))
    assert (status, error) == (
        501,
        "inputs[0].parameters.shared_memory_region: Shared memory is not supported.",
    )


@pytest.mark.parametrize("tail", [b"\x05\0\0\0x", b"\xff\xff\xff\xff", b"\x01\0\0", b"\0\0\0\0\0\0\0\0", b""])
def test_wrong_framing_of_bytes(place: Place, tail: bytes) -> None:
    shapes = {"numbers": ("FP32", 3), "halves": ("FP16", 2), "ids": ("INT64", 1), "flags": ("BOOL", 1)}
    inputs: list[Any] = [
        {"name": name, "shape": [1, size], "datatype": kind, "data": [1] * size if kind != "BOOL" else [True]}
        for name, (kind, size) in shapes.items()
    ]
    parameters = {"binary_data_size": len(tail)}
    inputs.append({"name": "texts", "shape": [1, 1], "datatype": "BYTES", "parameters": parameters})
    head = json.dumps({"inputs": inputs}).encode()
    status, error, _ = ask(place, place.mixed, head + tail, **{LENGTH: str(len(head))})
    assert (status, error[:16]) == (400, "inputs[4].data: ")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "body: The body is empty"),
        (b"[]", "body: Expected 'object'"),
        (b"{}", "body: Object missing required field 'inputs'"),
        (b'{"inputs": []}', "inputs: Expected 'array' of length >= 1"),
        (b"{" * 100_000, "body: "),
        (b'{"inputs": ' + b"[" * 500_000, "body: "),
        (b'{"id": "' + b"x" * 2000 + b'", "inputs": []}', "id: Expected 'str' of length <= 1024"),
        (b"\xff\xfe", "body: The body does not begin with valid JSON"),
        (document()[:-1] + b', "colour": 1}', "body: Object contains unknown field 'colour'"),
        (document()[:-1] + b', "parameters": {"priority": -1}}', "parameters.priority: Expected 'int' >= 0"),
        (document()[:-1] + b', "parameters": {"timeout": "1"}}', "parameters.timeout: Expected 'int"),
        (document()[:-1] + b', "outputs": [{"name": "output"}, {"name": "output"}]}', "outputs[1].name: Output output"),
    ],
)
def test_json_that_is_no_request(place: Place, body: bytes, text: str) -> None:
    status, error, _ = ask(place, place.echo, body)
    assert (status, error[: len(text)]) == (400, text)


def compressed(coding: str, data: bytes) -> bytes:
    return gzip.compress(data, 1) if coding == "gzip" else zlib.compress(data, 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_bombs_and_what_is_not_compressed(place: Place, coding: str) -> None:
    whole = compressed(coding, document())
    bomb = compressed(coding, bytes(MOST_BYTES + 1))
    assert len(bomb) < 100_000
    cases = [
        (whole, 200, ""),
        (bomb, 413, f"body: The body must be at most {MOST_BYTES} bytes uncompressed."),
        (whole[:-5], 400, f"body: The {coding} body is cut off."),
        (whole + b"x", 400, f"body: Something follows the end of the {coding} body."),
        (whole + whole, 400, f"body: Something follows the end of the {coding} body."),
        (document(), 400, f"Content-Encoding: The body is not compressed with {coding}."),
        (b"", 400, f"body: The {coding} body is cut off."),
    ]
    for body, wanted, text in cases:
        status, error, _ = ask(place, place.echo, body, Content_Encoding=coding)
        assert (status, error) == (wanted, text)


def test_another_coding_is_refused(place: Place) -> None:
    status, error, _ = ask(place, place.echo, document(), Content_Encoding="br")
    assert (status, error) == (400, "Content-Encoding: A body may be compressed with gzip or deflate.")


def test_a_body_without_json_is_the_only_input(place: Place) -> None:
    status, _, answer = ask(place, place.colours, bytes([7, 0, 0] * 64) + bytes([0, 0, 9] * 64), **{LENGTH: "0"})
    assert (status, answer["outputs"][0]["shape"]) == (200, [2, 3])
    status, _, answer = ask(place, place.echo, b"abcde", **{LENGTH: "0"})
    assert (status, answer["outputs"][0]["shape"]) == (200, [1, 5])
    status, error, _ = ask(place, place.colours, bytes(191), **{LENGTH: "0"})
    assert (status, error) == (400, "inputs[0].data: Shape [1, 8, 8, 3] of UINT8 takes 192 bytes, but data holds 191.")
    assert ask(place, place.mixed, bytes(191), **{LENGTH: "0"})[0] == 400


def test_a_list_of_codings_compresses_nothing(place: Place) -> None:
    status, _, answer = ask(place, place.echo, document(), Accept_Encoding="gzip, deflate, br")
    assert (status, answer["outputs"][0]["data"]) == (200, [1, 2, 3])


@pytest.mark.parametrize(("path", "status"), [("/v2/nothing", 404), ("/v2/models/x/infer", 405), ("/v2/logging", 501)])
def test_what_the_router_refuses_is_told_in_the_protocols_shape(place: Place, path: str, status: int) -> None:
    host, _, port = place.address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, list(json.loads(answer.read()))) == (status, ["error"])
    connection.close()


def test_a_long_json_of_honest_data(place: Place) -> None:
    data = list(range(256)) * 1000
    status, _, answer = ask(place, place.echo, document(shape=[1, len(data)], data=data))
    assert (status, answer["outputs"][0]["data"] == data) == (200, True)
