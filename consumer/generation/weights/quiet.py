"""transformers without progress bars, remarks and the network: a consumer logs what it does itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers while the block runs. It never asks a hub for files."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    gguf: Any = modeling_gguf_pytorch_utils
    bar = getattr(gguf, "tqdm", None)  # a bar that transformers' own switch does not reach
    gguf.tqdm = lambda items, **named: items
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gguf.tqdm = bar
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
