"""Language models from folders and GGUF files: what loads, what is refused, and that a file is converted once."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from consumer.generation.weights import conversion, sources
from consumer.generation.weights.opening import open_model
from tests.unit.consumer.generation.engines import llama, run
from tests.unit.consumer.generation.tokenisers import TEMPLATE, VOCABULARY, byte_tokenizer


def saved(folder: Path, **more: Any) -> Path:
    """Save the small Llama as people save a model."""
    model = deepcopy(llama())
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"eos_token": {"content": "<|im_end|>"}, "chat_template": TEMPLATE, **more}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 256}))
    return folder


def test_a_folder_is_opened_and_answers(tmp_path: Path) -> None:
    opened = open_model(str(saved(tmp_path)), tmp_path, slots=2)
    assert opened.context == 96  # the model's own
    assert opened.tokeniser.ends == {256}
    one = opened.reader.read("a", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0})
    assert len(run(opened.engine, [one])["a"].tokens) <= 8


def test_weights_that_are_a_pickle_are_refused_unopened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="pickle"):
        open_model(str(tmp_path), tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / name).unlink()
    with pytest.raises(ValueError, match=r"safetensors" if "safe" in name else name.replace(".", r"\.")):
        open_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_file_that_is_damaged_is_said(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / name).write_bytes(b'{"half": ')
    with pytest.raises(ValueError, match="cannot be read"):
        open_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize("weights", ["nowhere", "package:there-is-none", "package:../x", __file__])
def test_what_is_not_there(weights: str) -> None:
    with pytest.raises(ValueError, match=r"weights must be|not installed"):
        sources.find(weights)


def test_a_file_that_is_no_gguf_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ValueError, match=r"broken\.gguf"):
        conversion.converted(file, tmp_path / "data" / "converted")
    assert [path.suffix for path in (tmp_path / "data" / "converted").iterdir()] == [".lock"]


def gguf_file(path: Path) -> Path:
    """Write the small Llama as a GGUF file in fp32, as llama.cpp has it."""
    import gguf
    import numpy as np

    model = llama()
    config, state = model.config, {name: one.numpy() for name, one in model.state_dict().items()}
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    characters = sorted(byte_tokenizer().get_vocab().items(), key=lambda item: item[1])[: config.vocab_size]
    writer.add_tokenizer_model("gpt2")
    characters[255] = ("ab", 255)  # no text has this byte, and the list of merges may not be empty
    writer.add_token_list([text for text, _ in characters])
    writer.add_token_types([3 if text.startswith("<|") else 1 for text, _ in characters])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
    writer.add_chat_template(TEMPLATE)

    def rotary(weights: Any, heads: int) -> Any:  # llama.cpp keeps pairs of a head side by side
        half = weights.shape[0] // heads // 2
        return weights.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weights.shape)

    names = {"embed_tokens": "token_embd", "norm": "output_norm"}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "lm_head":
            target = "output.weight"
        elif parts[1] == "layers":
            inner = {
                "q_proj": "attn_q",
                "k_proj": "attn_k",
                "v_proj": "attn_v",
                "o_proj": "attn_output",
                "gate_proj": "ffn_gate",
                "up_proj": "ffn_up",
                "down_proj": "ffn_down",
                "input_layernorm": "attn_norm",
                "post_attention_layernorm": "ffn_norm",
            }[parts[-2]]
            target = f"blk.{parts[2]}.{inner}.weight"
            if inner == "attn_q":
                value = rotary(value, config.num_attention_heads)
            elif inner == "attn_k":
                value = rotary(value, config.num_key_value_heads)
        else:
            target = f"{names[parts[1]]}.weight"
        writer.add_tensor(target, np.ascontiguousarray(value, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_converted_once_and_answers_as_it_did(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    file = gguf_file(tmp_path / "tiny.gguf")
    caplog.set_level("INFO")
    opened = open_model(str(file), tmp_path / "data", slots=2)
    said = [record.message for record in caplog.records if "onvert" in record.message]
    assert [f"step {step} of 3" in text for step, text in enumerate(said[:3], 1)] == [True] * 3
    one = opened.reader.read("a", {"prompt": "abc", "max_tokens": 10, "temperature": 0, "ignore_end": True})
    ids = torch.tensor([one.prompt])
    expected = llama().generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert run(opened.engine, [one])["a"].tokens == expected[0, ids.shape[1] :].tolist()
    [folder] = [path for path in (tmp_path / "data" / "converted").iterdir() if path.is_dir()]
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    caplog.clear()
    assert conversion.converted(file, tmp_path / "data" / "converted") == folder
    assert not [record for record in caplog.records if "onvert" in record.message]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written

    (folder / "tokenizer.json").write_text("{}")  # cut off, as by a full disk
    (folder.parent / f".{folder.name}-left").mkdir()  # of a process that was killed
    assert conversion.converted(file, tmp_path / "data" / "converted") == folder
    assert (folder / "tokenizer.json").stat().st_size > 2
    assert not list(folder.parent.glob(".*"))


def _convert(file: Path, folder: Path, results: Any) -> None:
    results.put(str(conversion.converted(file, folder)))


@pytest.mark.soak
def test_two_processes_convert_a_file_once(tmp_path: Path) -> None:
    file = gguf_file(tmp_path / "tiny.gguf")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    both = [context.Process(target=_convert, args=(file, tmp_path / "converted", results)) for _ in range(2)]
    for one in both:
        one.start()
    found = {results.get(timeout=50) for _ in both}
    for one in both:
        one.join()
    assert len(found) == 1
    assert len([path for path in (tmp_path / "converted").iterdir() if path.is_dir()]) == 1
