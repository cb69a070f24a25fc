"""The express way by itself: which heads are remembered, and that every request is answered once and counted."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from prometheus_client.registry import CollectorRegistry

from producer_api.app import create_app
from producer_api.http import responses
from producer_api.http.express import MOST_BYTES, Heads, KnownHead
from producer_api.inference.codec import Response
from producer_api.inference.context import AppContext
from producer_api.inference.dialects import DIALECTS
from producer_api.inference.exchanges.exchange import Exchange
from producer_api.load.answer_budget import AnswerBudget
from producer_api.load.body_budget import BodyBudget
from producer_api.load.in_flight import InFlight
from producer_api.metrics import ApiMetrics
from producer_api.queue.interface import Answer, Catalogue, GiveUp, ModelState, Parts, Standing
from shared.keys import DEFAULT_LANE
from shared.settings import Settings
from shared.wire.messages import Fault, ModelTag, Reply, Request, Tensor, Timing
from shared.wire.outcomes import CLIENT_CLOSED, LANE_FULL, RequestError
from tests.fakes import ECHO
from tests.unit.producer_api.asgi import call

TARGET = b"/v1/models/echo/predict"
RAW = (b"content-type", b"application/octet-stream")
Headers = Sequence[tuple[bytes, bytes]]
Done = Callable[[Answer | RequestError], None]


def length(size: int = 3) -> tuple[bytes, bytes]:
    return b"content-length", str(size).encode()


def learnt(target: bytes = TARGET, headers: Headers | None = None, head: bytes = b"head") -> KnownHead | None:
    heads = Heads(DIALECTS, max_body_bytes=1000)
    heads.learn(head, target, headers or (RAW, length()))
    return heads.get(head)


def test_the_common_head_is_remembered_with_what_it_says() -> None:
    known = learnt(TARGET + b"?top_k=1&id=a", (RAW, (b"accept", b"a/b"), (b"connection", b"Keep-Alive"), length(7)))
    assert known is not None
    assert known.body_bytes == 7
    head = known.head
    assert (head.model, head.query, head.accept, head.content_type) == ("echo", b"top_k=1&id=a", b"a/b", RAW[1])
    assert (head.content_encoding, head.traceparent) == (None, None)


@pytest.mark.parametrize(
    "headers",
    [
        (RAW,),
        (RAW, (b"content-length", b"")),
        (RAW, (b"content-length", b"03")),
        (RAW, (b"content-length", b"+3")),
        (RAW, (b"content-length", b"3, 3")),
        (RAW, (b"content-length", "٣".encode())),
        (RAW, length(1001)),
        (RAW, length(10**11)),
        (RAW, length(), length()),
        (RAW, RAW, length()),
        (RAW, length(), (b"accept", b"a/b"), (b"accept", b"c/d")),
        (RAW, length(), (b"connection", b"close")),
        (RAW, length(), (b"connection", b"keep-alive, close")),
        (RAW, length(), (b"connection", b"upgrade"), (b"upgrade", b"h2c")),
        (RAW, length(), (b"upgrade", b"h2c")),
        (RAW, length(), (b"transfer-encoding", b"chunked")),
        (RAW, length(), (b"expect", b"100-continue")),
        (RAW, length(), (b"te", b"trailers")),
        (RAW, length(), (b"trailer", b"x")),
        (RAW, length(), (b"traceparent", b"anything")),
    ],
)
def test_headers_that_are_not_for_the_express_way(headers: Headers) -> None:
    assert learnt(headers=headers) is None


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/models/echo",
        b"/v1/models/echo/predict/",
        b"/v1/models//predict",
        b"/v1/models/a/b/predict",
        b"/v1/models/%65cho/predict",
        b"/v1/models/" + b"a" * 65 + b"/predict",
        b"/v1/models/echo/predict#",
        b"/v1/models/echo/predict?a#b",
        b"/v1/models/echo/predict\n",
        b"http://test/v1/models/echo/predict",
        b"//v1/models/echo/predict",
        b"/v1/models/../echo/predict",
    ],
)
def test_targets_that_are_not_for_the_express_way(target: bytes) -> None:
    assert learnt(target) is None


def test_a_long_head_is_not_remembered() -> None:
    assert learnt(head=b"a" * MOST_BYTES) is not None
    assert learnt(head=b"a" * (MOST_BYTES + 1)) is None


def of(heads: Heads, names: str) -> str:
    """Return which of these heads are remembered; those have come again."""
    return "".join(name for name in names if heads.get(name.encode()))


def test_of_too_many_heads_the_one_used_longest_ago_is_forgotten() -> None:
    heads = Heads(DIALECTS, 1000, most=3)
    for name in (b"a", b"b", b"c", b"c", b"d"):
        heads.learn(name, TARGET, (RAW, length()))
    assert of(heads, "abcd") == "bcd"
    heads.learn(b"e", TARGET, (RAW, length()))
    assert of(heads, "becd") == "bed"  # what has come again is forgotten in the order of use, too


def test_heads_that_come_once_push_out_none_that_have_come_again() -> None:
    heads = Heads(DIALECTS, 1000, most=3)
    heads.learn(b"a", TARGET, (RAW, length()))
    assert heads.get(b"a")
    for number in range(10):
        heads.learn(b"%d" % number, TARGET + b"?id=%d" % number, (RAW, length()))
    assert of(heads, "a0789") == "a789"


class Told:
    """A queue that answers as it is told: at once, later, never, or by raising."""

    def __init__(self, answer: Answer | Exception | None, *, at_once: bool = False) -> None:
        self._answer, self._at_once = answer, at_once

    async def start(self) -> None:
        """See the interface."""

    async def close(self) -> None:
        """See the interface."""

    async def find(self, model: str, request_id: str, lane: str = DEFAULT_LANE) -> Standing:
        """See the interface."""
        return Standing.UNKNOWN

    cancel = find

    def await_card(self, *_: Any) -> GiveUp:
        """See the interface: every model here has one."""
        raise AssertionError("the card is known")

    def catalogue(self) -> Catalogue:
        """See the interface."""
        return Catalogue({"echo": ModelState("echo", ECHO, 1, 0)}, redis_ok=True)

    def begin(
        self,
        state: ModelState,
        request: Request,
        *,
        id_is_generated: bool,
        done: Done,
        fingerprint: str = "",
        lane: str = "default",
        run_ms: int = 0,
        parts: Parts | None = None,
    ) -> GiveUp:
        """See the interface."""
        answer = self._answer
        if isinstance(answer, RequestError):  # a fresh one each time, as from any queue
            if self._at_once:
                raise RequestError(answer.outcome, "No.")
            asyncio.get_running_loop().call_soon(done, RequestError(answer.outcome, "No."))
        elif isinstance(answer, Exception):
            raise type(answer)(*answer.args)
        elif answer is not None and self._at_once:
            done(answer)
        elif answer is not None:
            asyncio.get_running_loop().call_soon(done, answer)
        return lambda: None


def reply(**parts: Any) -> Answer:
    return Answer(Reply("a", ModelTag("echo", "1", "fp32"), Timing(), **parts))


GOOD = reply(outputs=(Tensor("output", "UINT8", (1, 3), b"abc"),))


def asked(
    answer: Answer | Exception | None, *, at_once: bool = False, body: bytes = b"abc"
) -> tuple[AppContext, list[Response]]:
    """One request with a known head; what the connection was told to send."""
    in_flight, body_budget = InFlight(1), BodyBudget(1)
    metrics = ApiMetrics(CollectorRegistry(), "1", None, in_flight, body_budget, AnswerBudget(1, 1.0))
    context = AppContext(Settings(), Told(answer, at_once=at_once), metrics, body_budget, in_flight)
    sent: list[Response] = []

    async def main() -> None:
        known = learnt()
        assert known is not None
        Exchange(context, known.head).start(body, lambda exchange, response: sent.append(response))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    return context, sent


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [
        (GOOD, 200, "ok"),
        (reply(fault=Fault("model_error", "It failed.")), 500, "model_error"),
        (reply(fault=Fault("never heard of it", "It failed.")), 500, "internal"),
        (reply(fault=Fault(["a", "list"], "It failed.")), 500, "internal"),  # type: ignore[arg-type]
        (reply(outputs=(Tensor("output", "UINT8", (1, 3), None),)), 500, "internal"),  # type: ignore[arg-type]
        (RequestError(LANE_FULL, "The lane is full.", retry_after_s=1), 429, "lane_full"),
        (ZeroDivisionError("a bug in the queue"), 500, "internal"),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_whatever_the_queue_does_there_is_one_answer(
    answer: Answer | Exception, status: int, outcome: str, at_once: bool
) -> None:
    context, (response,) = asked(answer, at_once=at_once)
    assert responses.encode(response).startswith(b"HTTP/1.1 %d " % status)
    assert b"a bug in the queue" not in response.body
    assert not response.is_last
    assert context.in_flight.count == 0
    assert context.metrics.requests.counts == {("echo", outcome, "default"): 1}


def test_the_log_names_the_request_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    _, (response,) = asked(ZeroDivisionError("a bug in the queue"), at_once=True)
    [line] = caplog.records
    assert line.__dict__["request_id"] == response.request_id


def test_a_request_without_an_answer_is_in_flight() -> None:
    context, sent = asked(None)
    assert (sent, context.in_flight.count) == ([], 1)


PER_REQUEST = (Exchange, Request, Answer, Reply, Exception, partial)


@pytest.fixture
def uncollected() -> Iterator[list[Any]]:
    """Unreachable objects that only the garbage collector finds; a test calls it at its end."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("answer", [GOOD, RequestError(LANE_FULL, "The lane is full."), ZeroDivisionError()])
@pytest.mark.parametrize("body", [b"abc", b""])
def test_a_request_leaves_no_cycle_behind(answer: Any, body: bytes, uncollected: list[Any]) -> None:
    contexts = [asked(answer, at_once=at_once, body=body) for at_once in (False, True)]
    gc.collect()
    assert [one for one in uncollected if isinstance(one, PER_REQUEST)] == []
    assert len(contexts) == 2


def test_a_refusal_on_the_ordinary_way_leaves_no_cycle_behind(uncollected: list[Any]) -> None:
    app = create_app(Settings(), Told(RequestError(LANE_FULL, "The lane is full.")), CollectorRegistry())
    kind = [("Content-Type", "application/octet-stream")]

    async def main() -> None:
        for _ in range(3):
            assert (await call(app, "POST", TARGET.decode(), kind, b"x")).status == 429

    asyncio.run(main())
    gc.collect()
    assert [one for one in uncollected if isinstance(one, PER_REQUEST)] == []


def test_what_is_given_up_before_its_work_begins_leaves_nothing_that_was_never_awaited() -> None:
    in_flight, body_budget = InFlight(1), BodyBudget(1)
    metrics = ApiMetrics(CollectorRegistry(), "1", None, in_flight, body_budget, AnswerBudget(1, 1.0))
    told = Told(reply(at_store="aa/r.00000000:5"), at_once=True)
    context = AppContext(Settings(), told, metrics, body_budget, in_flight)
    sent: list[Response] = []

    async def main() -> None:
        known = learnt()
        assert known is not None
        exchange = Exchange(context, known.head)
        exchange.start(b"abc", lambda exchange, response: sent.append(response))
        exchange.abandon()
        await asyncio.sleep(0)
        assert exchange.outcome is CLIENT_CLOSED

    asyncio.run(main())
    gc.collect()  # a coroutine that was never awaited says so when it goes
    assert sent == []
