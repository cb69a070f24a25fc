"""The predicted wait where time grows with tokens: what counts is how many wait, and not how many requests they are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.load.wait_estimate import Backlog, Service, generation_service, service_of
from producer_api.queue.admission import check_wait
from producer_api.queue.catalogue import served
from shared.state.cards import BatchSettings, Card
from shared.wire.outcomes import WAIT_TOO_LONG, RequestError
from tests.unit.consumer.parts import CARD

TEXTS = BatchSettings(512, 5.0, "window", 100, 4.0, 50.0, "token", 2000, 0.5)
"""2,000 tokens in about a second, measured with texts of 100 tokens."""


def text_service(workers: int = 1) -> Service:
    service = service_of(TEXTS, workers)
    assert service is not None
    return service


@given(st.integers(1, 2000), st.integers(1, 4))
def test_a_batch_of_texts_has_as_many_as_their_tokens_allow(tokens: int, workers: int) -> None:
    service = text_service(workers)
    seen = service.for_requests_of(tokens)
    assert seen.rate * tokens == pytest.approx(service.unit_rate)  # the same tokens per second, however long they are
    assert seen.wave == max(1, round(workers * 20 * 100 / tokens))


def test_models_of_rows_and_lanes_that_nobody_has_seen_stay_as_they_are() -> None:
    rows = service_of(BatchSettings(8, 5.0, "adaptive", 4, 2.0, 1.0), 2)
    assert rows is not None
    assert rows.for_requests_of(100) is rows
    assert text_service().for_requests_of(0) == text_service()


def refused(service: Service, length: int, limit_s: float, own_s: float = 0.0) -> RequestError | None:
    backlog = Backlog()
    backlog.service = service
    backlog.told(length, 100.0)
    try:
        check_wait(backlog, service, limit_s, 100.0, own_s)
    except RequestError as error:
        return error
    return None


def test_ten_long_texts_wait_as_long_as_a_thousand_short_ones() -> None:
    """20,000 tokens take about ten seconds. Counted in requests the ten would be half a batch."""
    for length, tokens in ((10, 2000), (1000, 20)):
        service = text_service().for_requests_of(tokens)
        assert refused(service, length, 5.0) is not None
        assert refused(service, length, 30.0) is None
    assert refused(text_service(), 10, 5.0) is None


def test_generations_wait_for_the_tokens_that_prompts_and_answers_take() -> None:
    service = generation_service([(4, 100.0, 60.0), (4, 100.0, 60.0)])
    assert service is not None
    seen = service.for_requests_of(140)  # 200 tokens each, 200 a second
    assert seen.wave == 8
    assert seen.rate == pytest.approx(1.0)
    error = refused(seen, 30, 10.0, seen.batch_s)
    assert error is not None
    assert (error.outcome, error.message) == (
        WAIT_TOO_LONG,
        "The requests ahead of this one need longer than the 10 s within which it must begin.",
    )
    assert 10 < (error.retry_after_s or 0) < 40
    assert refused(seen, 30, 60.0, seen.batch_s) is None
    assert refused(seen, 7, 0.001, seen.batch_s) is None  # a slot is free


@pytest.mark.parametrize(
    "said",
    [[], [(4, 0, 60)], [(0, 100, 60)], [(4, 100, 0)], [(4, math.inf, 60)], [(4, math.nan, 60)], [(-4, 100, 60)]],
)
def test_what_workers_do_not_know_is_not_predicted(said: list[tuple[float, float, float]]) -> None:
    assert generation_service(said) is None


def test_a_worker_that_does_not_know_yet_leaves_it_to_the_others() -> None:
    assert generation_service([(4, 0, 0), (4, 100.0, 50.0)]) == generation_service([(4, 100.0, 50.0)])


def generating() -> Card:
    return Card("m", "1", "generate", CARD.inputs, CARD.outputs, (), "fp32", "cpu", TEXTS)


def test_what_consumers_that_generate_say_of_themselves_counts_and_not_their_card() -> None:
    assert served(generating(), 1, [None]) is None
    assert served(generating(), 1, [[b"", b"", b"1", b"8", b"200.5", b"30.0"]]) == generation_service([(8, 200.5, 30)])
    assert served(generating(), 1, [[b"", b"", b"1", b"x", b"9" * 100, None]]) is None
    assert served(CARD, 1, [None]) == service_of(CARD.batch, 1)
