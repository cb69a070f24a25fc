"""Family ``text`` with small encoders: the same answers as transformers gives, whatever shares the batch."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumer.models.base import Result
from consumer.models.text import text_family
from consumer.models.text.requests import PACKED
from consumer.models.text.text_model import TextModel
from consumer.pipeline.cancellations import Cancellations
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.items import Refusal
from shared.model_config import ModelConfig, TextConfig
from shared.wire.messages import Request, Tensor, pack
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, UNSUPPORTED_MEDIA_TYPE, RequestError
from tests.unit.consumer.models.text import tiny
from tests.unit.consumer.parts import item as an_item

TEXTS = ("the cat sat on the mat", "a dog", "stocks fell?", "cat " * 25, "the the the dog rose on a mat")


def model(folder: Path | str, threads: int = 1, **text: Any) -> TextModel:
    made = text_family.build(ModelConfig(family="text", weights=str(folder), text=TextConfig(**text)), threads)
    assert isinstance(made, TextModel)
    made.load("cpu", "fp32")
    return made


def elements(*texts: str | bytes) -> bytes:
    found = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(len(text).to_bytes(4, "little") + text for text in found)


def of_texts(*texts: str | bytes, query: tuple[str, ...] = (), **params: Any) -> Request:
    inputs = [Tensor("text", "BYTES", (len(texts),), elements(*texts))]
    if query:
        inputs.append(Tensor("query", "BYTES", (len(query),), elements(*query)))
    return Request("id", 1000, inputs=tuple(inputs), params=params)


def of_list(*items: Any, **params: Any) -> Request:
    return Request("id", 1000, PACKED, pack(list(items)), params=params)


def answer(one: TextModel, request: Request) -> Result:
    rows = one.preprocess(request)
    return one.postprocess(one.run(rows), request)


def numbers(result: Result, name: str = "embedding") -> Any:
    found = next(tensor for tensor in result.outputs or () if tensor.name == name)
    kind = {"FP32": "<f4", "INT32": "<i4"}[found.datatype]
    return np.frombuffer(found.data, kind).reshape(found.shape)


def refusal(one: TextModel, request: Request) -> RequestError:
    with pytest.raises(RequestError) as caught:
        one.preprocess(request)
    return caught.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TextModel:
    return model(folder)


def by_transformers(folder: Path, text: str) -> Any:
    """What the library itself says of a text: the mean of its tokens' states."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with torch.inference_mode():
        ids = torch.tensor([tokenizer.encode(text).ids])
        return AutoModel.from_pretrained(folder)(input_ids=ids).last_hidden_state[0].mean(0).numpy()


def test_a_batch_gives_each_text_what_transformers_gives_it_alone(folder: Path, encoder: TextModel) -> None:
    assert not encoder.describe().pads_rows
    result = answer(encoder, of_texts(*TEXTS))
    for text, vector in zip(TEXTS, numbers(result), strict=True):
        assert vector == pytest.approx(by_transformers(folder, text), abs=1e-4)
    assert numbers(result, "tokens").tolist() == [8, 4, 6, 27, 10]


@pytest.mark.parametrize(
    ("kind", "packs", "context"),
    [
        ("RobertaModel", True, 31),
        ("DistilBertModel", True, 32),
        ("ElectraModel", True, 32),
        ("MPNetModel", False, 30),  # its positions are relative to one another, across the whole row
        ("ModernBertModel", True, 32),  # some of its layers see a window only
    ],
)
def test_other_encoders_answer_the_same_in_company(tmp_path: Path, kind: str, packs: bool, context: int) -> None:
    settings: dict[str, Any] = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64} if "Distil" in kind else {}
    if "Modern" in kind:
        settings = {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    one = model(tiny.save(tmp_path, kind, **settings))
    assert (one.describe().pads_rows, one.describe().context) == (not packs, context)
    texts = TEXTS
    together = numbers(answer(one, of_texts(*texts)))
    for text, vector in zip(texts, together, strict=True):
        assert vector == pytest.approx(numbers(answer(one, of_texts(text)))[0], abs=1e-4)
        assert vector == pytest.approx(by_transformers(tmp_path, text), abs=1e-4)


def test_vectors_are_normalised_and_pooled_as_the_folder_says(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Normalize"}]))
    vectors = numbers(answer(model(tmp_path), of_texts(*TEXTS)))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    last = numbers(answer(model(folder, pooling="last", normalize=True), of_texts(*TEXTS)))
    assert np.linalg.norm(last, axis=1) == pytest.approx(1.0)
    assert not np.allclose(vectors, last, atol=0.01)


def test_requests_may_be_plain_text_lists_or_tokens(encoder: TextModel) -> None:
    plain = answer(encoder, Request("id", 1000, "text/plain; charset=utf-8", b"a dog"))
    assert numbers(plain).shape == (1, 32)
    assert np.array_equal(numbers(plain), numbers(answer(encoder, of_list("a dog"))))
    tokens = encoder.preprocess(of_list("a dog"))[0].ids.tolist()
    assert np.array_equal(numbers(plain), numbers(answer(encoder, of_list(tokens))))
    assert numbers(answer(encoder, of_list([5, 6], [7]))).shape == (2, 32)


def test_a_text_longer_than_the_context_is_refused_with_both_numbers_and_cut_only_if_asked(encoder: TextModel) -> None:
    long = "cat " * 40
    error = refusal(encoder, of_texts("a dog", long))
    assert (error.outcome.code, error.outcome.status, error.field) == ("context_length_exceeded", 400, "inputs[1]")
    assert "42 tokens" in error.message
    assert "32 tokens" in error.message
    rows = encoder.preprocess(of_texts(long, truncate=True))
    assert len(rows[0].ids) == tiny.CONTEXT
    assert rows[0].ids[-1] == 3  # the special token at its end is still there
    assert len(encoder.preprocess(of_list([5] * 40, truncate=True))[0].ids) == tiny.CONTEXT
    assert refusal(encoder, of_list([5] * 40)).field == "body[0]"
    assert refusal(encoder, of_texts("a", truncate="yes")).field == "parameters.truncate"


def test_a_request_larger_than_a_batch_runs_in_parts(folder: Path) -> None:
    one = model(folder, batch_tokens=16, request_tokens=100)
    together = numbers(answer(one, of_texts(*TEXTS)))
    assert together == pytest.approx(numbers(answer(model(folder), of_texts(*TEXTS))), abs=1e-4)
    error = refusal(one, of_texts(*["cat " * 25] * 4))
    assert "100 tokens together" in error.message


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        (of_texts("a", b"\xff\xfe"), "inputs[0].data[1]", "not UTF-8"),
        (Request("id", 1, "text/plain", b"caf\xe9"), "body", "not UTF-8: byte 3"),
        (of_list(), "body", "one or more"),
        (of_list("a", [1]), "body[1]", "texts only"),
        (of_list(3), "body[0]", "texts only"),
        (of_list([]), "body[0]", "must not be empty"),
        (of_list([1], [2, 16]), "body[1]", "from 0 to 15"),
        (of_list([-1]), "body[0]", "from 0 to 15"),
        (of_list([True]), "body[0]", "from 0 to 15"),
        (of_list([1.5]), "body[0]", "from 0 to 15"),
        (Request("id", 1, PACKED, b"\xc1"), "body", "not msgpack"),
        (of_texts(), "inputs", "text is missing"),
        (of_texts("a", query=("q",)), "inputs[1].name", "no input 'query'"),
        (Request("id", 1, inputs=(Tensor("text", "INT32", (1,), b"\0\0\0\0"),)), "inputs[0].datatype", "BYTES"),
        (Request("id", 1, inputs=(Tensor("text", "BYTES", (1, 2), elements("a", "b")),)), "inputs[0].shape", "[texts]"),
        (Request("id", 1, inputs=(Tensor("text", "BYTES", (1,), elements("a")),) * 2), "inputs[1].name", "twice"),
        (of_texts("a" * 300_000), "inputs[0]", "262144 bytes"),
        (of_texts(*["a" * 250_000] * 20), "inputs", "together"),
    ],
)
def test_what_is_wrong_is_named(encoder: TextModel, request_: Request, field: str, says: str) -> None:
    error = refusal(encoder, request_)
    assert (error.outcome, error.field) == (INVALID_INPUT, field)
    assert says in error.message


def test_other_bodies_are_refused(encoder: TextModel) -> None:
    assert refusal(encoder, Request("id", 1, "image/png", b"x")).outcome is UNSUPPORTED_MEDIA_TYPE


def test_one_bad_text_of_many_is_named(encoder: TextModel) -> None:
    texts: list[str | bytes] = ["a"] * 2048
    texts[1234] = b"\xff"
    assert refusal(encoder, of_texts(*texts)).field == "inputs[0].data[1234]"


def test_a_vector_that_is_not_finite_ends_its_request_alone(encoder: TextModel) -> None:
    request = of_texts("a dog", "the cat")
    outputs = list(encoder.run(encoder.preprocess(request)))
    outputs[1].values = np.full(32, np.nan, np.float32)
    with pytest.raises(RequestError) as caught:
        encoder.postprocess(outputs, request)
    assert caught.value.outcome is MODEL_ERROR
    assert numbers(encoder.postprocess(outputs[:1], request)).shape == (1, 32)


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "RobertaForSequenceClassification"])
def test_a_classifier_names_the_likeliest_classes_of_each_text(tmp_path: Path, kind: str) -> None:
    one = model(tiny.save(tmp_path, kind, **tiny.labels("good", "bad", "neither")))
    described = one.describe()
    assert (described.labels, described.task) == (("good", "bad", "neither"), "classification")
    assert not described.pads_rows
    request = of_texts(*TEXTS, top_k=2)
    predictions = answer(one, request).predictions
    assert predictions is not None
    assert [one.row for one in predictions] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    logits = numbers(answer(one, of_texts(*TEXTS, answer="tensors")), "logits")
    for number, text in enumerate(TEXTS):
        alone = numbers(answer(one, of_texts(text, answer="tensors")), "logits")[0]
        assert logits[number] == pytest.approx(alone, abs=1e-4)
        scores = np.exp(alone) / np.exp(alone).sum()
        assert predictions[2 * number].index == int(scores.argmax())
        assert predictions[2 * number].score == pytest.approx(scores.max(), abs=1e-4)
    assert refusal(one, of_texts("a", top_k=4)).field == "parameters.top_k"


def test_a_reranker_scores_texts_for_a_query(tmp_path: Path) -> None:
    one = model(tiny.save(tmp_path, "BertForSequenceClassification", **tiny.labels("relevant")))
    assert [spec.name for spec in one.describe().inputs] == ["query", "text"]
    scores = numbers(answer(one, of_texts("a dog", "the cat sat", query=("cat",))), "score")
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 1)).all()
    listed = numbers(answer(one, of_list(["cat", "a dog"], ["cat", "the cat sat"])), "score")
    assert listed == pytest.approx(scores)
    swapped = numbers(answer(one, of_texts("cat", query=("a dog",))), "score")
    assert abs(swapped[0] - scores[0]) > 1e-4  # which is the query matters
    row = one.preprocess(of_texts("cat " * 50, query=("a dog",), truncate=True))[0]
    assert (len(row.ids), row.types is not None and row.types[-1]) == (tiny.CONTEXT, 1)
    for bad, field in (
        (of_texts("a"), "inputs"),
        (of_texts("a", "b", "c", query=("q", "q")), "inputs"),
        (of_list("a"), "body[0]"),
        (of_texts("a", query=("cat " * 50,), truncate=True), "inputs[0]"),
    ):
        assert refusal(one, bad).field == field


def test_what_is_no_encoder_is_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    def copy(*, without: tuple[str, ...] = (), **texts: str) -> Path:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if name not in without:
                (place / name).write_bytes((folder / name).read_bytes())
        for name, text in texts.items():
            (place / name.replace("__", ".")).write_text(text)
        return place

    def said(place: Path | str, **text: Any) -> str:
        with pytest.raises(ValueError, match=r"\w \w") as caught:
            model(place, **text)
        return str(caught.value)

    config = (folder / "config.json").read_text()
    pickled = copy(without=("model.safetensors",), pytorch_model__bin="gASV")
    assert "a pickle (pytorch_model.bin)" in said(pickled)
    assert "is never run" in said(copy(config__json=config.replace("{", '{"auto_map": {"AutoModel": "x.Y"},', 1)))
    assert "no weights" in said(copy(without=("model.safetensors",)))
    assert "no tokenizer.json" in said(copy(without=("tokenizer.json",)))
    assert "not a tokenizer" in said(copy(tokenizer__json="{}"))
    assert "cannot be read" in said(copy(without=("config.json",)))
    assert "not JSON" in said(copy(config__json="{"))
    assert "is no folder" in said(tmp_path / "nowhere")
    assert "not installed" in said("package:no-such-encoder")
    assert "cannot be loaded" in said(copy(model__safetensors="x" * 100))
    assert "would be random" in said(folder, task="classification")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", 10**12),
        ("hidden_size", 10**9),
        ("intermediate_size", 10**10),
        ("num_hidden_layers", 10**6),
        ("max_position_embeddings", 10**10),
        ("num_labels", 10**9),
        ("type_vocab_size", 10**9),
        ("hidden_size", 64),
        ("num_attention_heads", 0),
        ("num_attention_heads", 7),
        ("hidden_size", "large"),
    ],
)
def test_sizes_that_lie_are_told_before_they_take_memory(folder: Path, tmp_path: Path, name: str, value: Any) -> None:
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"\.$"):
        model(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_precisions_units_and_runtime(folder: Path, encoder: TextModel) -> None:
    rows = encoder.sample_rows(40)
    assert [encoder.units(row) for row in rows[:20]] == [encoder.units(row) for row in encoder.sample_rows(20)]
    assert 1 <= min(map(encoder.units, rows)) <= max(map(encoder.units, rows)) <= tiny.CONTEXT
    assert encoder.runtime() == ("torch", "Texts share a batch without padding.")
    named = text_family.build(ModelConfig(family="text", weights=str(folder), runtime="onnxruntime"), 1)
    assert named.runtime() == ("torch", "onnxruntime does not run encoders; torch serves.")
    with pytest.raises(ValueError, match="fp32, bf16"):
        encoder.load("cpu", "fp16")


def test_a_tokenizer_that_panics_ends_its_request_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic of Rust is no ``Exception``."""

    class Panic(BaseException):
        """As pyo3 raises them."""

    class Tokenizer:
        def encode(self, text: str) -> Any:
            raise Panic("index out of bounds")

    one = model(folder)
    rows, item = Rows(one, 8, Cancellations()), an_item("a", b"a dog")
    item.request = of_texts("a dog")
    monkeypatch.setattr(one._maker, "_tokenizer", Tokenizer())
    with pytest.raises(Refusal) as caught:
        rows.make(item)
    assert caught.value.refused.error.outcome is MODEL_ERROR
    monkeypatch.undo()
    rows.make(item)
    assert item.load.units == 4
