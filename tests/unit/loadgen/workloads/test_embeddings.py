"""Answers with vectors: one for each text, and the service's own count of tokens."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgpack
import pytest

from loadgen.load.texts.embeddings import read_native_json, read_native_msgpack, read_openai


def outputs(tokens: Any, datatype: str = "INT32", rows: int = 2) -> dict[str, Any]:
    return {
        "outputs": [
            {"name": "embedding", "datatype": "FP32", "shape": [rows, 3], "data": [0.5] * 3 * rows},
            {"name": "tokens", "datatype": datatype, "shape": [rows], "data": tokens},
        ]
    }


def test_openai() -> None:
    answer = {"data": [{"embedding": "AAAA"}, {"embedding": "AAAA"}], "usage": {"prompt_tokens": 9}}
    told = read_openai(json.dumps(answer).encode(), 2)
    assert told is not None and (told.texts, told.prompt_tokens) == (2, 9)
    silent = read_openai(json.dumps({"data": answer["data"]}).encode(), 2)
    assert silent is not None and silent.prompt_tokens is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data":[]}', b'{"data":[{}]}', b'{"data":5}', b"\xff"])
def test_what_is_no_answer_of_openai(body: bytes) -> None:
    assert read_openai(body, 2) is None


def test_native() -> None:
    told = read_native_json(json.dumps(outputs([4, 5])).encode(), 2)
    assert told is not None and (told.texts, told.prompt_tokens) == (2, 9)
    for datatype, code in (("INT32", "<2i"), ("INT64", "<2q")):
        packed = outputs(struct.pack(code, 4, 300), datatype)
        packed["outputs"][0]["data"] = b"x" * 24
        told = read_native_msgpack(msgpack.packb({**packed, "v": 1, "ok": True}), 2)
        assert told is not None and told.prompt_tokens == 304
    without = {"outputs": outputs([4, 5])["outputs"][:1]}
    told = read_native_json(json.dumps(without).encode(), 2)
    assert told is not None and (told.texts, told.prompt_tokens) == (2, None)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"outputs":[]}', json.dumps(outputs(["a"])).encode(), b'{"outputs":[{}]}']
)
def test_what_is_no_answer_of_ours(body: bytes) -> None:
    assert read_native_json(body, 2) is None
    assert read_native_msgpack(body, 2) is None


@pytest.mark.parametrize("count", [-1, 2**62, 10**30])
def test_a_count_that_is_none_is_no_answer(count: int) -> None:
    """What a service says goes into a result file, and must fit there."""
    usage = {"data": [{}, {}], "usage": {"prompt_tokens": count}}
    assert read_openai(json.dumps(usage).encode(), 2) is None
    assert read_native_json(json.dumps(outputs([5, count])).encode(), 2) is None
    if abs(count) < 2**63:
        packed = outputs(struct.pack("<2q", 5, count), "INT64")
        assert read_native_msgpack(msgpack.packb(packed), 2) is None


def test_a_row_for_each_text() -> None:
    assert read_native_json(json.dumps(outputs([4, 5])).encode(), 3) is None
