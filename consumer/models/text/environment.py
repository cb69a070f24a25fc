"""What must be set before transformers and tokenizers are imported."""

from __future__ import annotations

import os


def prepare_for_transformers() -> None:
    """Keep them off the network, off other cores, and off the log."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # The decode pool has threads of its own, one text each.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    logging.disable_progress_bar()
