"""``/rerank`` with a cross encoder of family ``text``, and with an encoder whose vectors are compared."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.e2e.openai_models.conftest import Place
from tests.e2e.stack import call

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]  # each consumer takes seconds to import transformers

TEXTS = ["the dog sat on the mat", "a cat", "stock fell ?"]


def rank(place: Place, model: str, **more: Any) -> tuple[int, Any]:
    document = {"model": model, "query": "the cat sat", "documents": TEXTS, **more}
    answer = call(f"{place.stack.url}/rerank", json.dumps(document).encode(), "application/json")
    return answer.status, answer.body


def scores(place: Place, model: str) -> list[float]:
    """What the model says of each pair by itself, natively."""
    found = []
    for text in TEXTS:
        pair = {"query": ["the cat sat"], "text": [text]}
        tensors = [{"name": name, "datatype": "BYTES", "shape": [1], "data": data} for name, data in pair.items()]
        answer = place.stack.predict(model, json.dumps({"inputs": tensors}).encode(), "application/json")
        assert answer.status == 200, answer.body
        found += next(one for one in answer.body["outputs"] if one["name"] == "score")["data"]
    return found


def test_a_cross_encoder_scores_pairs(place: Place) -> None:
    expected = scores(place, place.ranker)
    assert len(set(expected)) == 3
    status, body = rank(place, place.ranker)
    assert status == 200, body
    assert [one["relevance_score"] for one in body["results"]] == pytest.approx(
        sorted(expected, reverse=True), abs=1e-5
    )
    assert [one["index"] for one in body["results"]] == sorted(range(3), key=lambda index: -expected[index])
    assert body["usage"]["total_tokens"] > 20  # the query counts with each text


def test_an_encoder_ranks_by_the_cosine(place: Place) -> None:
    vectors = place.client.embeddings.create(model=place.encoder, input=["the cat sat", *TEXTS]).data
    query, *others = (one.embedding for one in vectors)
    cosines = [sum(a * b for a, b in zip(query, other, strict=True)) for other in others]
    lengths = [sum(a * a for a in one.embedding) ** 0.5 for one in vectors]
    cosines = [cosine / lengths[0] / length for cosine, length in zip(cosines, lengths[1:], strict=True)]
    status, body = rank(place, place.encoder, top_n=2)
    assert status == 200, body
    assert [one["index"] for one in body["results"]] == sorted(range(3), key=lambda index: -cosines[index])[:2]
    assert [one["relevance_score"] for one in body["results"]] == pytest.approx(sorted(cosines)[:0:-1], abs=1e-5)


def test_many_texts_go_in_pieces(place: Place) -> None:
    status, body = rank(place, place.ranker, documents=[f"{'cat ' * (n % 5)}dog" for n in range(300)])
    assert status == 200, body
    assert sorted(one["index"] for one in body["results"]) == list(range(300))


@pytest.mark.parametrize("kind", ["ranker", "encoder"])
def test_a_text_that_is_too_long_is_named_or_cut(place: Place, kind: str) -> None:
    model, texts = getattr(place, kind), ["cat", "cat " * 100]
    status, body = rank(place, model, documents=texts)
    assert status == 400 and body["error_type"] == "context_length_exceeded", body
    status, body = rank(place, model, documents=texts, truncate=True)
    assert status == 200, body
    assert len(body["results"]) == 2


def test_a_writer_ranks_nothing(place: Place) -> None:
    status, body = rank(place, place.writer)
    assert status == 400 and body["error"].startswith("model: "), body


def test_what_is_not_generated_bit_by_bit_comes_whole_to_who_asks_for_events(place: Place) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a cat"]}
    request = urllib.request.Request(
        f"{place.stack.url}/v1/models/{place.encoder}/predict",
        json.dumps({"inputs": [tensor]}).encode(),
        {"Content-Type": "application/json", "Accept": "text/event-stream"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["content-type"] == "application/json"
        [vector] = place.client.embeddings.create(model=place.encoder, input="a cat").data
        outputs = json.loads(answer.read())["outputs"]
    assert next(one for one in outputs if one["shape"] == [1, 32])["data"] == pytest.approx(vector.embedding, abs=1e-5)
