"""The comparison without a consumer: a model that is loaded and warmed up, and waits.

`python -m tests.perf.programs.bare_model MODEL` is all there is to it.

It imports what the model needs and nothing that a consumer adds: no stages, no Redis client, no metrics.
"""

from __future__ import annotations

import os
import sys
from functools import partial

import torch

from consumer.config import resolve
from consumer.loading.precision import prepare
from consumer.loading.start_cache import StartCache
from consumer.models.families import build
from shared.settings import Settings


def main() -> None:
    """Load, warm up, say so, and stay until standard input closes."""
    config = resolve(Settings.from_env(os.environ), sys.argv[1], 0)
    torch.set_num_threads(int(sys.argv[2]))
    device = config.settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    made = partial(build, config.model_name, config.model)
    model, _ = prepare(made, device, config.precision, StartCache(), config.max_batch)
    for size in config.buckets:
        model.run(model.sample_rows(size))
    print("Warm.", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
