"""What can be sent, and what is said of what cannot."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import headrace.client
from headrace.client import Client, HeadraceError, Tensor
from headrace.client import tensors as module
from headrace.client.attempts import Retries
from headrace.client.bodies import checked_id, checked_model, payload, with_parameters
from headrace.client.rest import Rest, checked_url
from headrace.client.tensors import array_of, tensor_of, tensors_of
from tests.children import ROOT


@pytest.mark.parametrize(
    ("value", "datatype", "shape"),
    [
        (np.zeros((2, 3), np.float32), "FP32", (2, 3)),
        (np.zeros(3, ">f8"), "FP64", (3,)),
        (np.array([True]), "BOOL", (1,)),
        (np.arange(4, dtype=np.uint16), "UINT16", (4,)),
        (np.float16(1.5), "FP16", ()),
        (np.array(["a", "bc"]), "BYTES", (2,)),
        (np.array([[b"a"]], object), "BYTES", (1, 1)),
        ([1, 2, 3], "INT64", (3,)),
        ([[1, 2.5], [3, 4]], "FP32", (2, 2)),
        ([True, False], "BOOL", (2,)),
        ("text", "BYTES", ()),
        (["text", b"\xff"], "BYTES", (2,)),
        (7, "INT64", ()),
    ],
)
def test_values_become_tensors_and_come_back(value: Any, datatype: str, shape: tuple[int, ...]) -> None:
    tensor = tensor_of("x", value)
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", datatype, shape)
    back = array_of(tensor)
    if datatype == "BYTES":
        plain = [one.encode() if isinstance(one, str) else one for one in np.asarray(value, object).ravel().tolist()]
        assert back.ravel().tolist() == plain
    else:
        assert np.array_equal(back, np.asarray(value))


@pytest.mark.parametrize("value", [[1, 2, 3], [[1.5, 2.5]], [True], ["a", "b"], 7, [[[1], [2]], [[3], [4]]]])
def test_without_numpy_there_are_lists(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "numpy", lambda: None)
    expected = [one.encode() for one in value] if value == ["a", "b"] else value
    assert array_of(tensor_of("x", value)) == expected


def test_a_tensor_says_everything_itself() -> None:
    assert tensor_of("x", Tensor("other", "UINT8", (1,), b"\1")) == Tensor("x", "UINT8", (1,), b"\1")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([[1], [1, 2]], "lists of different lengths"),
        ([1, "a"], "must hold numbers, truth values, texts or bytes, not int, str"),
        ([], "not nothing"),
        (None, "not NoneType"),
        ([1 << 64], "does not fit INT64"),
        ([1e300], "does not fit FP32"),
        (np.zeros(1, np.complex64), "dtype complex64"),
        ({"a": 1}, "not dict"),
    ],
)
def test_what_is_no_tensor_is_refused(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        tensors_of({"x": value})
    assert "inputs['x']" in str(caught.value)


def test_bodies_have_the_content_type_that_they_plainly_are(tmp_path: Path) -> None:
    photo = tmp_path / "cat.jpg"
    photo.write_bytes(b"jpeg")
    found = [payload(body, None, None, None, False) for body in (b"raw", "text", photo, bytearray(b"raw"))]
    assert [(one.content_type, one.body) for one in found] == [
        ("application/octet-stream", b"raw"),
        ("text/plain", b"text"),
        ("image/jpeg", b"jpeg"),
        ("application/octet-stream", b"raw"),
    ]
    assert payload(photo, None, "image/x", 3, True).params == {"top_k": 3, "truncate": True}


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="either a body or inputs"):
        payload(None, None, None, None, False)
    with pytest.raises(ValueError, match="either a body or inputs"):
        payload(b"", {"x": 1}, None, None, False)
    with pytest.raises(ValueError, match="content_type belongs to a body"):
        payload(None, {"x": 1}, "text/plain", None, False)
    with pytest.raises(ValueError, match="must be bytes, a text or a Path, not list"):
        payload([1], None, None, None, False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inputs must map"):
        payload(None, {}, None, None, False)
    for bad in ("", "a b", "x" * 65, "ä"):
        with pytest.raises(ValueError, match="request_id must have"):
            checked_id(bad)
        with pytest.raises(ValueError, match="A model's name"):
            checked_model(bad)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://host:x", "http://host?q=1", "http://u:p@host"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must read http://host:port"):
        Client(url)


def test_an_address_may_have_a_path() -> None:
    assert checked_url("https://host/below/") == "https://host/below"


@pytest.mark.parametrize("key", ["", "a\nb", "ä"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        Rest(key, Retries())


def test_an_error_passes_between_processes() -> None:
    error = HeadraceError("lane_full", "Full.", field="x", request_id="a", status=429, retry_after_s=2.0)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is HeadraceError
    assert (str(back), vars(back)) == ("lane_full: Full.", vars(error))


def test_importing_it_loads_nothing_heavy() -> None:
    program = "import sys, headrace.client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"numpy", "redis", "httpx2", "consumer"}.isdisjoint(done.stdout.split())


def test_a_client_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Streams'"):
        headrace.client.Streams  # noqa: B018


def test_documents_keep_their_members_and_get_options_more() -> None:
    text = '{"inputs": [1, {"a": null}], "parameters": {"top_k": 2, "id": "theirs"}}'
    for kind, codec in (("application/json; charset=utf-8", msgspec.json), ("application/x-msgpack", msgspec.msgpack)):
        body = codec.encode(msgspec.json.decode(text))
        document = payload(body, None, kind, None, False)
        assert document.is_document
        assert codec.decode(with_parameters(document, {"id": "ours"})) == {
            "inputs": [1, {"a": None}],
            "parameters": {"top_k": 2, "id": "ours"},
        }
        for wrong in (b"", b"[1]", b"\xc1", b'{"parameters": 3}', b"\xff{"):
            with pytest.raises(ValueError, match="The body is no application/"):
                with_parameters(payload(wrong, None, kind, None, False), {})
    assert not payload(b"{}", None, None, None, False).is_document
