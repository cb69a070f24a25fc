"""`python -m tests.perf.peers.export FILE`: save the weights of bench-mobilenet, as Headrace serves it."""

from __future__ import annotations

import sys

import torch

from consumer.models.vision.torchvision import build_network
from shared.model_config import load, pick


def main() -> None:
    """Build the network through the product's own code and save it."""
    network = build_network(pick(load("models.toml"), "bench-mobilenet", "models.toml"))
    torch.save(network.module.state_dict(), sys.argv[1])


if __name__ == "__main__":
    main()
