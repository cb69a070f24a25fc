"""A small BERT, written without torch, which takes seconds to import."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.unit.consumer.models.text import tiny

SIZE, INNER, LAYERS, HEADS = 32, 64, 2, 4


def save(folder: Path) -> Path:
    """Write config, tokenizer and random weights; returns ``folder``."""
    random = np.random.default_rng(5)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (tiny.VOCABULARY, SIZE),
        "embeddings.position_embeddings.weight": (tiny.CONTEXT, SIZE),
        "embeddings.token_type_embeddings.weight": (2, SIZE),
    }
    linear = {"pooler.dense": (SIZE, SIZE)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        linear |= {f"{name}.attention.self.{part}": (SIZE, SIZE) for part in ("query", "key", "value")}
        linear |= {f"{name}.attention.output.dense": (SIZE, SIZE)}
        linear |= {f"{name}.intermediate.dense": (INNER, SIZE), f"{name}.output.dense": (SIZE, INNER)}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    weights = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        weights |= {f"{name}.weight": np.ones(SIZE, np.float32), f"{name}.bias": np.zeros(SIZE, np.float32)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": tiny.VOCABULARY,
        "hidden_size": SIZE,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": tiny.CONTEXT,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tiny.tokenizer(folder)
    return folder
