"""Long lists of texts: which pieces they are cut into, and how the pieces become one answer again."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.inference.codec import Decoded
from producer_api.inference.openai.pieces import cut
from producer_api.inference.openai.texts import of_texts, request_of
from producer_api.parsing.steps import at_once
from producer_api.queue.interface import Answer
from producer_api.streaming.several import AT_ONCE, Several
from shared.state.cards import BatchSettings, Card, TensorSpec
from shared.wire.messages import Fault, ModelTag, Reply, Request, Tensor, Timing
from shared.wire.outcomes import RequestError


def card(most_rows: int, most_units: int | None = None) -> Card:
    batch = BatchSettings(most_rows, 5.0, "window", max_units=most_units)
    texts = (TensorSpec("text", "BYTES", ()),)
    return Card("m", "1", "text", texts, (), ("application/vnd.headrace.text",), "fp32", "cpu", batch)


def pieces_of(texts: list[str], model: Card) -> list[Request]:
    made = cut(Decoded(of_texts(texts, model, "input"), True), len(texts), model, can_be_cut=True, field="input")
    assert not made.pieces or sum(made.sizes) == len(texts)
    return [made.request, *made.pieces]


def texts_of(request: Request) -> list[str]:
    assert request.inputs is not None
    (tensor,) = request.inputs
    data, at, found = tensor.data, 0, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        found.append(data[at + 4 : end].decode())
        at = end
    assert tensor.shape == (len(found),)
    return found


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=80), st.integers(1, 9), st.integers(1, 40))
def test_pieces_together_are_the_list(texts: list[str], most_rows: int, most_units: int) -> None:
    pieces = [texts_of(piece) for piece in pieces_of(texts, card(most_rows, most_units))]
    assert [text for piece in pieces for text in piece] == texts
    for piece in pieces:
        assert len(piece) <= most_rows
        assert len(piece) == 1 or sum(-(-len(text.encode()) // 4) for text in piece) <= most_units


def test_a_list_that_fits_stays_one() -> None:
    assert len(pieces_of(["a"] * 10, card(10))) == 1
    assert len(pieces_of(["a"] * 11, card(10))) == 2
    assert len(pieces_of(["a" * 1000], card(10, 5))) == 1  # one longer than the budget is alone


def test_tokens_are_cut_too() -> None:
    model = card(2)
    request, rows = at_once(request_of(b"[[1,2],[3],[4,5,6]]", model, "input"))
    made = cut(Decoded(request, True), rows, model, can_be_cut=True, field="input")
    bodies = [msgspec.msgpack.decode(one.body or b"") for one in (made.request, *made.pieces)]
    assert (bodies, made.sizes) == ([[[1, 2], [3]], [[4, 5, 6]]], (2, 1))
    with pytest.raises(RequestError, match="answered later"):
        cut(Decoded(request, True), rows, model, can_be_cut=False, field="input")


class Held:
    """A queue that answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: dict[str, Any] = {}
        self.given_up: list[str] = []

    def begin(self, state: Any, request: Request, *, done: Any, **_: Any) -> Any:
        self.waiting[request.id] = done
        return lambda: self.given_up.append(request.id)

    def answer(self, request_id: str, fault: Fault | None = None) -> None:
        tensor = Tensor("embedding", "UINT8", (1, 1), bytes([int(request_id)]))
        reply = Reply(
            request_id, ModelTag("m", "1", "fp32"), Timing(), outputs=None if fault else (tensor,), fault=fault
        )
        self.waiting.pop(request_id)(Answer(reply))


def several(queue: Held, count: int, ended: list[Any]) -> Any:
    async def whole(reply: Reply) -> Reply:
        return reply

    pieces = [Request(str(number), 1000) for number in range(count)]
    made = Several(queue, None, "default", pieces, [1] * count, whole, ended.append, True)  # type: ignore[arg-type]
    return made.begin()


def test_answers_are_joined_in_order_and_a_few_are_in_the_lane_at_a_time() -> None:
    async def main() -> None:
        queue, ended = Held(), list[Any]()
        several(queue, 20, ended)
        assert len(queue.waiting) == AT_ONCE
        while queue.waiting:
            queue.answer(max(queue.waiting, key=int))
            assert len(queue.waiting) <= AT_ONCE
        [answer] = ended
        assert answer.reply.outputs[0].data == bytes(range(20))
        assert (answer.reply.outputs[0].shape, queue.given_up) == ((20, 1), [])

    asyncio.run(main())


def test_the_first_error_ends_all_of_it() -> None:
    async def main() -> None:
        queue, ended = Held(), list[Any]()
        several(queue, 20, ended)
        queue.answer("3", Fault("invalid_input", "No.", "inputs[0].data[0]"))
        [answer] = ended
        assert answer.reply.fault.field == "inputs[0].data[3]"
        assert sorted(queue.given_up, key=int) == ["0", "1", "2", "4", "5", "6", "7"]

    asyncio.run(main())


def test_giving_up_gives_up_every_piece() -> None:
    async def main() -> None:
        queue, ended = Held(), list[Any]()
        several(queue, 3, ended)()
        assert (queue.given_up, ended) == (["0", "1", "2"], [])

    asyncio.run(main())
