"""Large bodies and answers hold nobody up: the event loop turns many times while one is decoded or encoded."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_api.inference import decoding, tensors
from producer_api.inference.codec import Limits
from producer_api.inference.decoding import decode_in_steps
from producer_api.inference.encoding import encode_reply, encode_reply_in_steps, is_large
from producer_api.inference.negotiation import JSON, MSGPACK, RAW
from producer_api.inference.request_ids import fingerprint_in_steps
from producer_api.parsing import json_cuts, json_lists
from producer_api.parsing.steps import StepRunner, Steps, at_once
from shared.state.cards import TensorSpec
from shared.wire.messages import ModelTag, Prediction, Reply, Tensor, Timing
from shared.wire.outcomes import OVERLOADED, RequestError, malformed
from tests.fakes import LABELS, card
from tests.unit.producer_api.test_proportion import array_of, in_json, in_msgpack, listed

SIZE = 4 << 20
MEBIBYTE = 1 << 20
LONGEST_SHARE = 0.25
"""No step may take a larger share of the whole; on a quiet machine the longest takes a twentieth, mostly less."""


def _decoding(kind: str, body: bytes, datatype: str = "FP32") -> Steps[Any]:
    one = card("m", [TensorSpec("x", datatype, (-1,))], content_types=("image/jpeg", RAW), max_batch=1 << 30)
    return decode_in_steps(kind, body, b"", one, Limits(1000, 1000, 1 << 24), "a", None)


def _encoding(reply: dict[str, Any]) -> Steps[bytes]:
    return encode_reply_in_steps(Reply("a", ModelTag("m", "1", "fp32"), Timing(), **reply), 0.1, JSON)


def _output(datatype: str, data: bytes, count: int) -> dict[str, Any]:
    return {"outputs": [Tensor("x", datatype, (1, count), data)]}


PICTURE = b"\xff\xd8\xff" + random.Random(1).randbytes(SIZE * 3 // 4)
COUNT = SIZE // 11
WORKS: dict[str, Callable[[], Steps[Any]]] = {
    "JSON, flat": lambda: _decoding(JSON, in_json(listed(b"0.12345678", SIZE), b"[%d]" % (SIZE // 11))),
    "JSON, nested": lambda: _decoding(
        JSON, in_json(b"[" + b",".join([listed(b"0.12345678", 1100)] * 3800) + b"]", b"[3800,100]")
    ),
    "JSON, whole numbers": lambda: _decoding(JSON, in_json(listed(b"7", SIZE), b"[%d]" % (SIZE // 2))),
    "JSON, texts": lambda: _decoding(
        JSON, in_json(listed(b'"abcdef"', SIZE), b"[%d]" % (SIZE // 9), b"BYTES"), "BYTES"
    ),
    "JSON, one text of escapes": lambda: _decoding(
        JSON, in_json(b'["%b"]' % (rb"\"\\" * (SIZE // 4)), b"[1]", b"BYTES"), "BYTES"
    ),
    "JSON, a thousand long texts": lambda: _decoding(
        JSON, in_json(listed(b'"%b"' % (b"a" * 4096), SIZE), b"[%d]" % (SIZE // 4099), b"BYTES"), "BYTES"
    ),
    "JSON, base64": lambda: _decoding(JSON, b'{"image_base64":"%b"}' % base64.b64encode(PICTURE)),
    "JSON, base64 in lines": lambda: _decoding(
        JSON, json.dumps({"image_base64": base64.encodebytes(PICTURE).decode()}).encode()
    ),
    "msgpack, numbers": lambda: _decoding(MSGPACK, in_msgpack(array_of(SIZE) + b"\x01" * SIZE, [SIZE])),
    "msgpack, texts": lambda: _decoding(
        MSGPACK, in_msgpack(array_of(SIZE // 7) + b"\xa6abcdef" * (SIZE // 7), [SIZE // 7], "BYTES"), "BYTES"
    ),
    "raw, large numbers": lambda: _decoding(RAW, b"\x00\x00\x00\x7f" * (SIZE // 4)),
    "answer of floats": lambda: _encoding(_output("FP32", b"\xdb\x0f\x49\x40" * (SIZE // 4), SIZE // 4)),
    "answer of bytes": lambda: _encoding(_output("UINT8", bytes(SIZE), SIZE)),
    "answer of texts": lambda: _encoding(_output("BYTES", b"\x03\0\0\0abc" * (SIZE // 7), SIZE // 7)),
    "answer of predictions": lambda: _encoding(
        {"predictions": [Prediction("cat", 1, 0.5, number % 9) for number in range(50_000)]}
    ),
    "fingerprint": lambda: fingerprint_in_steps(JSON, b"", bytes(8 * SIZE)),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_the_event_loop_turns_many_times_meanwhile(name: str) -> None:
    """Both counted and measured, in processor time: the longest without a turn against the whole, the best of three."""
    shares = []
    for _ in range(3):
        steps = WORKS[name]()
        waits: list[float] = []

        async def watch(waits: list[float] = waits) -> None:
            while True:
                begun_s = time.thread_time()
                await asyncio.sleep(0)
                waits.append(time.thread_time() - begun_s)

        async def main(steps: Steps[Any] = steps) -> float:
            watcher = asyncio.create_task(watch())
            await asyncio.sleep(0)
            begun_s = time.thread_time()
            await StepRunner().run(steps)
            took_s = time.thread_time() - begun_s
            watcher.cancel()
            return took_s

        took_s = asyncio.run(main())
        assert len(waits) >= 8
        shares.append(max(waits) / took_s)
        if shares[-1] < LONGEST_SHARE:
            return
    pytest.fail(f"the longest without a turn was each time too long: {shares}")


def test_works_take_turns() -> None:
    """Many at once hold up the loop no longer than one: a step of one of them runs in each turn."""
    running: list[str] = []
    turns_of_the_loop = 0

    def work(name: str) -> Steps[str]:
        for _ in range(3):
            running.append(name)
            yield
        return name

    async def main() -> list[str]:
        async def count() -> None:
            nonlocal turns_of_the_loop
            while True:
                await asyncio.sleep(0)
                turns_of_the_loop += 1

        runner, counter = StepRunner(), asyncio.create_task(count())
        done = await asyncio.gather(*(runner.run(work(name)) for name in "abc"))
        counter.cancel()
        return done

    assert asyncio.run(main()) == ["a", "b", "c"]
    assert running == list("abc" * 3)
    assert turns_of_the_loop >= 9


def test_a_work_that_is_given_up_or_fails_lets_the_others_go_on() -> None:
    closed = []

    def endless() -> Steps[None]:
        try:
            while True:
                yield
        finally:
            closed.append(1)

    def failing() -> Steps[None]:
        yield
        raise malformed("wrong")

    async def main() -> None:
        runner = StepRunner()
        task = asyncio.create_task(runner.run(endless()))
        with pytest.raises(RequestError):
            await runner.run(failing())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await runner.run(_encoding(_output("UINT8", b"1", 1)))

    asyncio.run(main())
    assert closed == [1]


class Crowd:
    """Works of several steps, and what those under way were made from, at most."""

    def __init__(self, runner: StepRunner) -> None:
        self.runner, self.most, self.ended = runner, 0, list[str]()

    async def work(self, name: str, size_bytes: int) -> None:
        def steps() -> Steps[None]:
            for _ in range(5):
                self.most = max(self.most, self.runner.bytes_under_way)
                yield

        await self.runner.run(steps(), size_bytes)
        self.ended.append(name)


def test_what_is_under_way_is_bounded_and_small_works_do_not_wait_for_it() -> None:
    async def main() -> None:
        crowd = Crowd(StepRunner(most_bytes=20 * MEBIBYTE))
        large = [asyncio.create_task(crowd.work(f"large {n}", 15 * MEBIBYTE)) for n in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(*(crowd.work("small", MEBIBYTE) for _ in range(3)))
        assert len(crowd.ended) <= 4
        await asyncio.gather(*large, crowd.work("larger than all", 100 * MEBIBYTE))
        assert [name for name in crowd.ended if name != "small"] == [
            *(f"large {n}" for n in range(20)),
            "larger than all",
        ]
        assert crowd.runner.bytes_under_way == 0
        assert crowd.most == 100 * MEBIBYTE  # it was alone

        crowd.most = 0
        await asyncio.gather(*(crowd.work("small", MEBIBYTE) for _ in range(100)))
        assert crowd.most == 40 * MEBIBYTE

    asyncio.run(main())


def test_those_that_wait_are_bounded_and_leave_nothing_behind_when_they_give_up() -> None:
    async def main() -> None:
        crowd = Crowd(StepRunner(40 * MEBIBYTE, most_bytes=10 * MEBIBYTE))
        some = [asyncio.create_task(crowd.work(f"{n}", 10 * MEBIBYTE)) for n in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as caught:
            await crowd.work("too much", 10 * MEBIBYTE)
        assert (caught.value.outcome, caught.value.retry_after_s) == (OVERLOADED, 1)
        for one in some[:4]:  # the one under way, and three that wait
            one.cancel()
        await asyncio.gather(*some, return_exceptions=True)
        assert crowd.ended == ["4"]
        await asyncio.gather(*(crowd.work("again", 10 * MEBIBYTE) for _ in range(5)))
        assert crowd.most == 10 * MEBIBYTE
        assert crowd.runner.bytes_under_way == 0

    asyncio.run(main())


@pytest.mark.parametrize("kind", [JSON, MSGPACK])
def test_a_name_of_megabytes_that_nobody_knows_takes_no_longer_than_its_bytes(kind: str) -> None:
    name = "z" * SIZE
    body = json.dumps({name: 1}).encode() if kind == JSON else msgspec.msgpack.encode({name: 1})
    one = card("m", [TensorSpec("x", "FP32", (-1,))])

    def seconds(step: Callable[[], Any]) -> float:
        begun_s = time.thread_time()
        step()
        return time.thread_time() - begun_s

    def refused() -> None:
        with pytest.raises(RequestError) as caught:
            at_once(decode_in_steps(kind, body, b"", one, Limits(1000, 1000, 1 << 24), "a", None))
        assert (caught.value.outcome.code, caught.value.field) == ("invalid_input", "body")

    usual_s = min(
        seconds(lambda: [msgspec.json.decode(msgspec.json.encode(name)) for _ in range(10)]) for _ in range(3)
    )
    assert min(seconds(refused) for _ in range(3)) < usual_s


@pytest.mark.parametrize(("name", "field"), [
    ("x - at `$.parameters.id`", "body"), ("`", "body"), (" - at `$", "body"),
])  # fmt: skip
def test_a_name_that_looks_like_a_place_is_none(name: str, field: str) -> None:
    one = card("m", [TensorSpec("x", "FP32", (-1,))])
    for body, expected in (({name: 1}, field), ({"parameters": {name: 1}}, "parameters")):
        with pytest.raises(RequestError) as caught:
            at_once(
                decode_in_steps(MSGPACK, msgspec.msgpack.encode(body), b"", one, Limits(1000, 1000, 1 << 24), "a", None)
            )
        assert caught.value.field == expected


@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "BOOL", "INT16", "BYTES", "FP16"])
def test_an_answer_in_steps_is_the_answer_at_once(datatype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer_api.inference.encoding.ELEMENTS_AT_ONCE", 3)
    monkeypatch.setattr("producer_api.inference.encoding.TEXTS_AT_ONCE", 2)
    monkeypatch.setattr("producer_api.inference.encoding.PREDICTIONS_AT_ONCE", 2)
    data = {"BYTES": b"".join(bytes([n, 0, 0, 0]) + b"x" * n for n in range(7)), "FP32": b"\0\0\xc0\x7f" + bytes(28)}
    reply = Reply(
        "a", ModelTag("m", "1", "fp32"), Timing(1, 2, 3, 4, 5), outputs=[
            Tensor("x", datatype, (1, 8), data.get(datatype, bytes(range(8)) * 2)), Tensor("y", "UINT8", (0,), b"")
        ], warnings=("w",),
    )  # fmt: skip
    assert at_once(encode_reply_in_steps(reply, 0.25, JSON)) == encode_reply(reply, 0.25, JSON)
    assert at_once(encode_reply_in_steps(reply, 0.25, MSGPACK)) == encode_reply(reply, 0.25, MSGPACK)
    for row in (0, 1):
        predictions = [Prediction(label, index, 0.5, row) for index, label in enumerate(LABELS)]
        answer = msgspec.structs.replace(reply, outputs=None, predictions=predictions)
        assert at_once(encode_reply_in_steps(answer, 0.25, JSON)) == encode_reply(answer, 0.25, JSON)


def test_small_answers_and_those_in_msgpack_are_encoded_at_once() -> None:
    large = Reply("a", ModelTag("m", "1", "fp32"), Timing(), **_output("UINT8", bytes(1 << 20), 1 << 20))
    assert (is_large(large, JSON), is_large(large, MSGPACK)) == (True, False)
    small = Reply("a", ModelTag("m", "1", "fp32"), Timing(), **_output("UINT8", bytes(100), 100))
    assert not is_large(small, JSON)


def test_a_fingerprint_in_steps_is_the_same() -> None:
    body = random.Random(2).randbytes(2_000_000)
    whole = hashlib.sha256(b"application/json\0a=1\0" + body).hexdigest()
    assert at_once(fingerprint_in_steps(JSON, b"a=1", body)) == whole[:32]


@pytest.mark.parametrize("piece", [1, 5, 13, 100])
def test_a_long_text_in_pieces_is_the_text(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_cuts, "PIECE_BYTES", piece)
    for text in ("a\\\n😀ä€" * 5, "\\" * 50, "é" * 30, '"\t/' * 20, ""):
        for ascii_only in (True, False):
            written = json.dumps(text, ensure_ascii=ascii_only).encode()
            assert at_once(json_cuts._text(written)) == text
    with pytest.raises(RequestError):
        at_once(json_cuts._text(b'"' + b"a" * 20 + b"\\x" + b"a" * 20 + b'"'))


# --- what is cut out of long JSON ----------------------------------------------------------------------------------

texts = st.sampled_from(["a", "]", "[", '","', "\\", "{", "}", ":", '"k":', "ä", "x" * 30])
elements: dict[str, st.SearchStrategy[Any]] = {
    "FP32": st.sampled_from([1, 2.5, -3e4, 0]), "BYTES": texts, "BOOL": st.booleans(), "INT16": st.integers(-99, 99)
}  # fmt: skip


def outcome(body: bytes, datatype: str) -> Any:
    one = card("m", [TensorSpec("x", datatype, (-1,))], max_batch=1 << 20)
    try:
        return at_once(decode_in_steps(JSON, body, b"", one, Limits(1000, 1000, 1 << 24), "a", None)).request
    except RequestError:
        return "refused"


@pytest.mark.parametrize(("body", "told"), [
    ({"inputs": [0] * SIZE}, ("Expected 'array | null', got 'str', or something that is too long here.", "inputs")),
    ({"z" * SIZE: 1}, ("The name of a member is too long.", "body")),
    ({"inputs": [{"data": [0] * SIZE}]}, ("Object missing required field 'name'.", "inputs[0]")),
])  # fmt: skip
def test_what_stands_for_something_long_is_not_told(body: Any, told: tuple[str, str]) -> None:
    with pytest.raises(RequestError) as caught:
        at_once(
            decode_in_steps(JSON, json.dumps(body).encode(), b"", card("m", []), Limits(1000, 1000, 1 << 24), "a", None)
        )
    assert caught.value.message.startswith(told[0])
    assert caught.value.field == told[1]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_body_that_is_cut_up_means_the_same_and_is_refused_alike(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(sorted(elements)))
    values = data.draw(st.lists(elements[datatype], min_size=1, max_size=120))
    tensor = {"name": "x", "shape": [len(values)], "datatype": datatype, "data": values}
    order = data.draw(st.permutations(sorted(tensor)))
    document = {
        "inputs": [{name: tensor[name] for name in order}],
        "parameters": data.draw(st.none() | st.just({"id": "b"})),
    }
    body = bytearray(
        json.dumps(document, indent=data.draw(st.none() | st.just(0)), ensure_ascii=data.draw(st.booleans())).encode()
    )
    for _ in range(data.draw(st.integers(0, 2))):
        place, byte = data.draw(st.integers(0, len(body) - 1)), data.draw(st.sampled_from(b'[]{}",:\\1 a'))
        if data.draw(st.booleans()):
            body[place] = byte
        else:
            body.insert(place, byte)
    whole = outcome(bytes(body), datatype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_cuts, "LONG_BYTES", data.draw(st.sampled_from([70, 120])))
        patch.setattr(decoding, "LARGE_BYTES", 0)
        patch.setattr(tensors, "LONG_BYTES", data.draw(st.sampled_from([0, 100_000])))
        patch.setattr(json_lists, "PIECE_BYTES", data.draw(st.sampled_from([1, 7, 65536])))
        assert outcome(bytes(body), datatype) == whole


@pytest.mark.parametrize(
    "body",
    [
        in_json(b"[1]", listed(b"1", SIZE)),
        b'{"inputs":' + listed(b'{"name":"x","shape":[],"datatype":"","data":0}', SIZE) + b"}",
        b'{"parameters":{"id":"' + b"a" * SIZE + b'"}}',
        b'{"inputs":[{"name":"' + b"x" * SIZE + b'","shape":[1],"datatype":"FP32","data":[1]}]}',
        b'{"image_base64":"' + b"A" * SIZE + b'","image_base64":"' + b"A" * SIZE + b'"}',
        b'{"' + b"k" * SIZE + b'":1}',
        b'{"image_base64":"\\' + b"u" * SIZE + b'"}',
        b"[" * SIZE,
        b'["a",' * (SIZE // 5),
        b'["a"' * (SIZE // 4) + b',"k":1',
        b'["a","k":' * (SIZE // 9),
        b'"' * SIZE,
        b'"\\' * (SIZE // 2),
        b"{" * SIZE,
        b" " * SIZE,
        b"[1,2" + b" " * SIZE + b"{",
    ],
    ids=range(16),
)
def test_what_is_long_in_another_place_is_refused_soon(body: bytes) -> None:
    """Counted in steps, of which each looks at a bounded number of places: no body makes it look twice."""
    count = 0
    one = card("m", [TensorSpec("x", "FP32", (-1,))], max_batch=4)
    steps = decode_in_steps(JSON, body, b"", one, Limits(1000, 1000, 1 << 24), "a", None)
    refused = None
    while refused is None:
        try:
            next(steps)
            count += 1
        except RequestError as error:
            refused = error
    assert refused.outcome.status in (400, 422)
    assert count < len(body) / 250
