"""Attempts, pauses and deadlines of one request: a scripted service and a clock of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from headrace.client import HeadraceError, Retries
from headrace.client.answers import Answer, Body, Timing
from headrace.client.exchange import MSGPACK, Call, Flow, Lost, Pause, Received
from headrace.client.rest import Rest

T = TypeVar("T")

SLOW_S = 0.01
"""What each attempt takes."""


class Service:
    """Answers with what its script says, in turn; keeps what it was asked, and when."""

    def __init__(self, *script: Received | Lost) -> None:
        self.script = list(script)
        self.calls: list[tuple[float, Call]] = []
        self.pauses: list[float] = []
        self.now_s = 100.0

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end."""
        step = next(flow)
        try:
            while True:
                found = None
                if isinstance(step, Pause):
                    self.pauses.append(step.pause_s)
                    self.now_s += step.pause_s
                else:
                    self.calls.append((self.now_s, step))
                    found = self.script.pop(0)
                    late = isinstance(found, Lost) and found.is_late
                    self.now_s += step.timeout_s if late else SLOW_S
                step = flow.send((self.now_s, found))
        except StopIteration as end:
            answer: T = end.value
            return answer


def answered(request_id: str = "x") -> Received:
    body = Body(request_id, "echo", "1", Timing())
    return Received(200, {"content-type": MSGPACK}, msgspec.msgpack.encode(body))


def refused(status: int, code: str, retry_after: str = "") -> Received:
    body = {"error": {"code": code, "message": "A sentence.", "field": None, "id": "theirs"}}
    return Received(status, {"retry-after": retry_after} if retry_after else {}, json.dumps(body).encode())


def predict(
    service: Service, timeout_s: float = 10.0, jitter: Callable[[], float] = lambda: 1.0, attempts: int = 6
) -> Answer:
    rest = Rest(None, Retries(attempts=attempts, jitter=jitter))
    flow = rest.predict(
        service.now_s,
        "echo",
        b"body",
        inputs=None,
        content_type=None,
        timeout_s=timeout_s,
        top_k=3,
        truncate=False,
        explain=False,
        request_id=None,
    )
    return service.run(flow)


def query(call: Call) -> dict[str, list[str]]:
    return parse_qs(urlsplit(call.path).query)


BUSY = refused(503, "loading")
LOST = Lost("The connection failed.")


@pytest.mark.parametrize("failure", [BUSY, LOST, refused(429, "lane_full"), refused(504, "unknown_outcome")])
def test_every_attempt_has_the_same_id_and_less_time(failure: Received | Lost) -> None:
    service = Service(failure, failure, answered())
    assert predict(service).model == "echo"
    asked = [query(call) for _, call in service.calls]
    assert len({one["id"][0] for one in asked}) == 1 and len(asked) == 3
    times = [int(one["timeout_ms"][0]) for one in asked]
    assert times == sorted(times, reverse=True) and times[0] == 9900 and times[2] < 9700
    assert all(one["top_k"] == ["3"] for one in asked)


def test_two_requests_have_different_ids() -> None:
    service = Service(answered(), answered())
    predict(service)
    predict(service)
    assert len({query(call)["id"][0] for _, call in service.calls}) == 2


def test_pauses_double_and_are_drawn_from_the_upper_half() -> None:
    service = Service(*[BUSY] * 4, answered())
    predict(service)
    assert service.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8])
    service = Service(*[BUSY] * 4, answered())
    predict(service, jitter=lambda: 0.0)
    assert service.pauses == pytest.approx([0.05, 0.1, 0.2, 0.4])


def test_retry_after_is_the_least_pause() -> None:
    service = Service(refused(429, "lane_full", "3"), answered())
    predict(service, jitter=lambda: 0.0)
    assert service.pauses == pytest.approx([3.05])


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    service = Service(refused(503, "loading", "30"))
    with pytest.raises(HeadraceError) as caught:
        predict(service)
    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == ("loading", 503, 30.0)
    assert caught.value.request_id == query(service.calls[0][1])["id"][0]
    assert service.pauses == []


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 413, 415, 422, 499, 500, 501, 507])
def test_what_would_fail_again_is_not_repeated(status: int) -> None:
    service = Service(refused(status, "some_code"))
    with pytest.raises(HeadraceError, match="some_code: A sentence") as caught:
        predict(service)
    assert caught.value.status == status
    assert len(service.calls) == 1


def test_it_gives_up_after_the_last_attempt() -> None:
    service = Service(*[LOST] * 3)
    with pytest.raises(HeadraceError) as caught:
        predict(service, attempts=3)
    assert (caught.value.code, caught.value.status) == ("connection_failed", None)


def test_all_attempts_together_take_no_longer_than_the_timeout() -> None:
    service = Service(*[BUSY] * 2, Lost("No answer came in time.", is_late=True))
    begun_s = service.now_s
    with pytest.raises(HeadraceError) as caught:
        predict(service, timeout_s=2.0)
    assert (caught.value.code, caught.value.status) == ("unknown_outcome", 504)
    assert service.now_s - begun_s == pytest.approx(2.0)


def test_a_long_timeout_is_many_waits_under_one_id() -> None:
    service = Service(refused(504, "unknown_outcome"), answered())
    predict(service, timeout_s=150.0)
    assert [query(call)["timeout_ms"] for _, call in service.calls] == [["60000"], ["60000"]]
    assert len({query(call)["id"][0] for _, call in service.calls}) == 1


def test_an_untrusted_certificate_is_not_tried_again() -> None:
    service = Service(Lost("The certificate is not trusted.", is_final=True))
    with pytest.raises(HeadraceError, match="not trusted"):
        predict(service)


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"{}", b'{"error": 3}', b""])
def test_an_error_of_something_else_is_named(body: bytes) -> None:
    service = Service(Received(404, {}, body))
    with pytest.raises(HeadraceError, match="is there something else") as caught:
        predict(service)
    assert (caught.value.code, caught.value.status) == ("bad_answer", 404)


@pytest.mark.parametrize("body", [b"<html>", b"\xc1", b"\x80", b""])
def test_an_answer_of_something_else_is_named(body: bytes) -> None:
    for headers in ({"content-type": MSGPACK}, {}):
        with pytest.raises(HeadraceError, match="cannot be read"):
            predict(Service(Received(200, headers, body)))


@pytest.mark.parametrize("text", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "", "99999999999999999", "٣"])
def test_a_retry_after_that_is_no_number_counts_as_none(text: str) -> None:
    service = Service(refused(503, "loading", text), answered())
    predict(service)
    assert service.pauses == pytest.approx([0.1])


def polls(service: Service) -> Sequence[str]:
    return [call.path for _, call in service.calls]


def test_a_result_is_polled_until_it_is_there() -> None:
    waiting = Received(202, {"content-type": "application/json"}, b'{"status": "queued"}')
    service = Service(waiting, LOST, waiting, answered())
    flow = Rest("key", Retries(jitter=lambda: 0.0)).result(service.now_s, "echo", "report-1", 60.0)
    assert service.run(flow).model == "echo"
    assert polls(service) == ["/v1/models/echo/requests/report-1?wait=20"] * 4
    assert service.calls[0][1].headers["Authorization"] == "Bearer key"


def test_a_result_that_does_not_come_ends_with_the_timeout() -> None:
    waiting = Received(202, {"content-type": "application/json"}, b'{"status": "queued"}')
    service = Service(*[waiting] * 100)
    begun_s = service.now_s
    with pytest.raises(HeadraceError) as caught:
        service.run(Rest(None, Retries()).result(begun_s, "echo", "report-1", 3.0))
    assert (caught.value.code, caught.value.request_id) == ("unknown_outcome", "report-1")
    assert service.now_s - begun_s <= 3.0 + 2 * SLOW_S
    assert len(service.calls) < 20


def test_too_late_to_cancel_is_no_error() -> None:
    rest = Rest(None, Retries())
    service = Service(refused(409, "already_answered"), Received(200, {}, b"{}"), refused(404, "unknown_request"))
    assert service.run(rest.cancel(service.now_s, "echo", "a", 1.0)) is False
    assert service.run(rest.cancel(service.now_s, "echo", "a", 1.0)) is True
    with pytest.raises(HeadraceError, match="unknown_request"):
        service.run(rest.cancel(service.now_s, "echo", "a", 1.0))


def test_retries_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="attempts must be at least 1, not 0"):
        Retries(attempts=0)
    with pytest.raises(ValueError, match="at least 0"):
        Retries(first_s=-1.0)
    with pytest.raises(ValueError, match="timeout_s must be above 0, not 0"):
        predict(Service(), timeout_s=0.0)
