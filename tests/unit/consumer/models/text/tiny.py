"""Small encoders with random weights, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ("cat", "dog", "sat", "mat", "stock", "fell", "rose", "a", "the", "on", "?", "##s")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = len(SPECIAL) + len(WORDS)
CONTEXT = 32


def tokenizer(folder: Path) -> None:
    """Write a tokenizer of these words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made.enable_padding(length=20)  # as sentence-transformers saves them; nobody wants that here
    made.enable_truncation(20)
    made.save(str(folder / "tokenizer.json"))


def save(folder: Path, kind: str = "BertModel", **settings: Any) -> Path:
    """Make an encoder of class ``kind`` and save it with its tokenizer; returns ``folder``."""
    import torch
    import transformers

    torch.manual_seed(5)
    made: Any = getattr(transformers, kind)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": 0,
        "initializer_range": 0.5,  # so that texts differ
    }
    made(made.config_class(**sizes | settings)).save_pretrained(folder)
    tokenizer(folder)
    return folder


def labels(*names: str) -> dict[str, Any]:
    """Return the settings of a classifier of these."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
