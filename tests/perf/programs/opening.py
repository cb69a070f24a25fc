"""[I/O] What a consumer does before it serves, without a queue: `python -m tests.perf.programs.opening MODEL`.

Loads a model as its settings say, runs one picture, says so, and stays until standard input closes.
"""

from __future__ import annotations

import os
import sys

import consumer.worker  # noqa: F401  # all that a consumer is made of: memory is compared with real ones
from consumer.config import resolve
from consumer.loading.load import load_model
from consumer.models.families import build
from shared.settings import Settings


def main() -> None:
    """Load and answer once."""
    config = resolve(Settings.from_env(os.environ), sys.argv[1], 0)
    loaded = load_model(lambda: build(config.model_name, config.model), config)
    loaded.model.run(loaded.model.sample_rows(1))
    runtime = loaded.network.runtime if loaded.network else "none"
    imports = "imported" if "torch" in sys.modules else "not imported"
    print(f"Opened {runtime} {loaded.parity.precision}; torch is {imports}.", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
