"""A tokeniser of bytes, as the library ``tokenizers`` has them, with special tokens and a chat template."""

from __future__ import annotations

from typing import Any

from consumer.generation.chat import ChatTemplate
from consumer.generation.tokeniser import Tokeniser

START, END = 257, 256
VOCABULARY = 258
TEMPLATE = """{% for message in messages %}
<|im_start|>{{ message.role }}: {{ message['content'] | trim }}<|im_end|>{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"""


def byte_tokenizer() -> Any:
    """Return a tokenizer of which token n is the byte n, and two more are special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    made = Tokenizer(models.BPE({characters[byte]: byte for byte in range(256)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|im_end|>", special=True), AddedToken("<|im_start|>", special=True)])
    return made


def tokeniser(template: str | None = TEMPLATE) -> Tokeniser:
    made = None if template is None else ChatTemplate(template, {"eos_token": "<|im_end|>"})
    return Tokeniser(byte_tokenizer(), frozenset({END}), made)
