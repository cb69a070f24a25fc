"""The benchmark network in plain eager code, as somebody writes it who has a model and a serving framework.

It runs in an environment of its own, without Headrace. torch is used as it comes: fp32, no layout or fusion tricks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from names import WEIGHTS  # type: ignore[import-not-found]  # its folder is on the path of this script only


class Plain:
    """mobilenet_v3_small on raw pixels."""

    def __init__(self) -> None:
        torch.set_num_threads(1)  # a worker for each core: more threads would only get in each other's way
        self.model = torchvision.models.mobilenet_v3_small(weights=None)
        self.model.load_state_dict(torch.load(os.environ[WEIGHTS], weights_only=True))
        self.model.eval()
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        self.std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    def classify(self, bodies: Sequence[bytes]) -> list[list[dict[str, Any]]]:
        """Return the five likeliest classes of each picture of 224 x 224 x 3 raw bytes."""
        pictures = [torch.frombuffer(bytearray(body), dtype=torch.uint8).view(224, 224, 3) for body in bodies]
        batch = torch.stack(pictures).permute(0, 3, 1, 2).float().div(255)
        with torch.inference_mode():
            scores, indices = self.model((batch - self.mean) / self.std).softmax(dim=1).topk(5)
        return [
            [{"index": index, "score": score} for index, score in zip(row, values, strict=True)]
            for row, values in zip(indices.tolist(), scores.tolist(), strict=True)
        ]
