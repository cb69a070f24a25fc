"""A GPU's own speed: `python -m tests.perf.programs.gpu_replay MODELS_FILE MODEL ROWS SECONDS` prints rows per second.

The network in half precision, channels last, with normalising and the five best classes, captured once as a CUDA graph
on static tensors and replayed. Nothing goes in or out: no server can be faster with this network and batch.
"""

from __future__ import annotations

import sys
import time

import torch

from consumer.models.vision.torchvision import build_network
from shared.model_config import load, pick


def capture(models_file: str, model: str, rows: int) -> torch.cuda.CUDAGraph:
    """Return the graph of one batch, warmed up."""
    network = build_network(pick(load(models_file), model, models_file))
    module = network.module.half().eval().to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
    side = network.preprocessing.crop
    pixels = torch.randint(0, 256, (rows, side, side, 3), dtype=torch.uint8, device="cuda")
    mean, std = (
        torch.tensor(values, device="cuda").half().mul(255).view(1, 3, 1, 1)
        for values in (network.preprocessing.mean, network.preprocessing.std)
    )

    def batch() -> None:
        values = (pixels.permute(0, 3, 1, 2).half() - mean) / std
        module(values).float().softmax(dim=1).topk(5)

    stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(5):
            batch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        batch()
    return graph


def main() -> None:
    """Capture, replay, and print what came of it."""
    rows, seconds = int(sys.argv[3]), float(sys.argv[4])
    graph, done = capture(sys.argv[1], sys.argv[2], rows), 0
    torch.cuda.synchronize()
    begun_s = time.perf_counter()
    while time.perf_counter() - begun_s < seconds:
        for _ in range(10):
            graph.replay()
        torch.cuda.synchronize()
        done += 10 * rows
    print(f"{done / (time.perf_counter() - begun_s):.1f}")


if __name__ == "__main__":
    main()
