"""Reranking as Cohere's clients and those of text-embeddings-inference ask for it, and ``/embed``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.openai.test_embeddings import expected
from tests.e2e.stack import call

TEXTS = ["zzz", "a cat", "act"]


def ask(place: Place, path: str, document: dict[str, Any]) -> tuple[int, Any]:
    answer = call(place.stack.url + path, json.dumps(document).encode(), "application/json")
    return answer.status, answer.body


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_in_the_order_of_their_scores(place: Place, path: str) -> None:
    asked = {"model": place.letters, "query": "cat", "documents": [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]}
    status, body = ask(place, path, asked)
    assert status == 200, body
    assert [one["index"] for one in body["results"]] == [2, 1, 0]
    scores = [one["relevance_score"] for one in body["results"]]
    cosine = sum(a * b for a, b in zip(expected("cat"), expected("a cat"), strict=True))
    assert scores == pytest.approx([1, cosine, 0], abs=1e-6)
    assert body["usage"]["total_tokens"] == 5 and body["model"] == place.letters
    status, body = ask(place, path, {**asked, "top_n": 1, "return_documents": True})
    assert body["results"] == [{"index": 2, "relevance_score": scores[0], "document": {"text": "act"}}]


def test_texts_as_text_embeddings_inference_has_them(place: Place) -> None:
    status, body = ask(place, "/rerank", {"model": place.letters, "query": "cat", "texts": TEXTS, "return_text": True})
    assert status == 200
    assert [(one["index"], one["text"]) for one in body] == [(2, "act"), (1, "a cat"), (0, "zzz")]


def test_pairs_are_scored_by_a_model_of_pairs(place: Place) -> None:
    status, body = ask(place, "/rerank", {"model": place.pairs, "query": "cat", "texts": ["cats", "dog", "ca"]})
    assert (status, [(one["index"], one["score"]) for one in body]) == (200, [(0, 3.0), (2, 2.0), (1, 0.0)])


def test_embed(place: Place) -> None:
    status, body = ask(place, "/embed", {"model": place.letters, "inputs": ["cat", "dog"]})
    assert (status, body) == (200, [pytest.approx(expected(text), abs=1e-6) for text in ("cat", "dog")])
    status, body = ask(place, "/embed", {"model": place.letters, "inputs": "ab", "normalize": False, "dimensions": 1})
    assert body == [[1.0]]
    status, body = ask(place, "/embed", {"model": place.letters, "inputs": [[97], [98, 98]]})
    assert body == [pytest.approx(expected(text), abs=1e-6) for text in ("a", "bb")]


@pytest.mark.parametrize(
    ("path", "document", "said"),
    [
        ("/rerank", {"query": "a"}, "documents: A request has either documents or texts"),
        ("/rerank", {"query": "a", "texts": ["a"], "documents": ["a"]}, "either documents or texts"),
        ("/rerank", {"query": "", "texts": ["a"]}, "query: "),
        ("/rerank", {"query": "a", "texts": []}, "texts: "),
        ("/rerank", {"query": "a", "texts": ["a", ""]}, "texts[1]: "),
        ("/rerank", {"query": "a", "documents": ["a", 5]}, "documents[1]: "),
        ("/rerank", {"query": "a", "texts": ["a"] * 2048}, "texts: "),
        ("/rerank", {"query": "a", "texts": ["a"], "top_n": 0}, "top_n: "),
        ("/rerank", {"query": "a", "texts": ["a"], "colour": 0}, "colour: "),
        ("/rerank", {"texts": ["a"]}, "query: "),
        ("/embed", {}, "inputs: "),
        ("/embed", {"inputs": []}, "inputs: "),
        ("/embed", {"inputs": ["a"] * 300 + ["boom"]}, "inputs[0].data[300]: "),
        ("/embed", {"inputs": "a", "dimensions": 27}, "dimensions: "),
    ],
)
def test_what_is_wrong_is_named(place: Place, path: str, document: dict[str, Any], said: str) -> None:
    status, body = ask(place, path, {"model": place.letters, **document})
    assert status == 400 and body["error"] == body["message"], body
    assert said in body["error"]


def test_without_a_name_it_is_the_chosen_model(place: Place) -> None:
    status, body = ask(place, "/embed", {"inputs": "a"})
    assert status == 404 and "names no model" in body["error"]  # there are several
    assert ask(place, "/embed", {"model": place.echo, "inputs": "a"})[0] == 400
    assert ask(place, "/rerank", {"model": place.echo, "query": "a", "texts": ["a"]})[0] == 400
