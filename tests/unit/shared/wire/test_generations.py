"""Frames, bodies and replies of generations against their golden bytes, and against what a hostile sender thinks of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from shared.wire import fast, messages
from shared.wire.frames import Frame, TokenLogprob, decode_frames, encode_frame, pack_tokens, tokens_of
from shared.wire.generated import Choice, Generated, Usage
from shared.wire.generation import Generation, decode_generation, encode_generation
from shared.wire.messages import ModelTag, Reply, Timing, WireError
from shared.wire.outcomes import RequestError

GOLDEN: dict[str, Any] = json.loads(
    Path(__file__).parents[3].joinpath("golden", "generations.json").read_text(encoding="utf-8")
)


def named(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in GOLDEN[kind]])


def plain(value: Any) -> Any:
    """The golden file's way of writing bytes, undone."""
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if set(value) == {"hex"} else {k: plain(v) for k, v in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


@named("frames")
def test_golden_frames(case: dict[str, Any]) -> None:
    expected = msgspec.convert(list(plain(case["frame"]).values()), Frame, builtin_types=(bytes,))
    assert list(case["frame"]) == list(Frame.__struct_fields__)
    assert decode_frames(bytes.fromhex(case["hex"])) == [expected]
    assert decode_frames(encode_frame(expected)) == [expected]


def test_frames_stand_one_behind_the_other() -> None:
    data = b"".join(bytes.fromhex(case["hex"]) for case in GOLDEN["frames"])
    assert [frame.text for frame in decode_frames(data)] == [case["frame"]["text"] for case in GOLDEN["frames"]]
    assert decode_frames(b"") == []


@named("bad_frames")
def test_golden_bad_frames(case: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode_frames(bytes.fromhex(GOLDEN["frames"][0]["hex"]) + bytes.fromhex(case["hex"]))


@given(some.binary(max_size=64))
def test_whatever_is_no_frame_is_refused(data: bytes) -> None:
    try:
        frames = decode_frames(data)
    except WireError:
        return
    assert all(isinstance(frame, Frame) for frame in frames)


@given(some.lists(some.integers(0, 2**32 - 1)))
def test_tokens_are_four_bytes_each(tokens: list[int]) -> None:
    packed = pack_tokens(tokens)
    assert packed == b"".join(token.to_bytes(4, "little") for token in tokens)
    assert list(tokens_of(packed)) == tokens
    if packed:
        with pytest.raises(WireError, match="4 bytes each"):
            tokens_of(packed[:-1])


@named("generations")
def test_golden_generations(case: dict[str, Any]) -> None:
    body = plain(case["body"])
    asked = decode_generation(bytes.fromhex(case["hex"]))
    assert asked.parameters == {name: value for name, value in body.items() if name not in ("stream", "run_ms")}
    assert (asked.stream, asked.run_ms) == (body.get("stream", False), body.get("run_ms"))


def test_what_is_encoded_is_read() -> None:
    wanted = Generation(tokens=(1, 2), stop=("a",), stream=True, run_ms=5, seed=9)
    assert msgpack.unpackb(encode_generation(wanted)) == {
        "tokens": pack_tokens((1, 2)), "stop": ["a"], "stream": True, "run_ms": 5, "seed": 9
    }  # fmt: skip
    assert decode_generation(encode_generation(wanted)).stream


@named("bad_generations")
def test_golden_bad_generations(case: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        decode_generation(bytes.fromhex(case["hex"]))
    assert (refused.value.outcome.code, refused.value.field) == ("invalid_input", case["field"])


@named("replies")
def test_golden_replies(case: dict[str, Any]) -> None:
    message = bytes.fromhex(case["hex"])
    expected = msgspec.convert(case["generated"], Generated)
    for decode in (messages.decode_reply, fast.decode_reply):
        assert decode(message).generated == expected
    read = messages.decode_reply(message)
    for encode in (messages.encode_reply, fast.encode_reply):
        assert msgpack.unpackb(encode(read)) == msgpack.unpackb(message)


@pytest.mark.parametrize("wrong", [1, [], {"choices": []}, {"choices": [{}], "usage": {}, "frames": 0}])
def test_a_wrong_answer_is_refused_by_both_readers(wrong: Any) -> None:
    reply = Reply("a", ModelTag("m", "1", "fp32"), Timing(), generated=Generated((), Usage(0, 0), 0))
    message = msgpack.unpackb(messages.encode_reply(reply))
    for decode in (messages.decode_reply, fast.decode_reply):
        with pytest.raises(WireError):
            decode(msgpack.packb({**message, "generated": wrong}))


def test_log_probabilities_survive() -> None:
    likely = TokenLogprob(1, "a", -0.5, ((1, "a", -0.5),))
    reply = Reply("a", ModelTag("m", "1", "fp32"), Timing(),
                  generated=Generated((Choice(0, "a", "stop", (likely,)),), Usage(1, 1), 1))  # fmt: skip
    found = fast.decode_reply(fast.encode_reply(reply)).generated
    assert found is not None
    assert found.choices[0].logprobs == (likely,)
