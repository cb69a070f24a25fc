"""Segments pictures: for each pixel its class and the probability of that."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms

from .vision_handler import VisionHandler, in_colour


class ImageSegmenter(VisionHandler):
    """See the module; the network answers a map whose ``out`` has a channel for each class."""

    image_processing = transforms.Compose(
        [
            in_colour,
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )

    def postprocess(self, data: Any) -> Any:
        """Return for each picture rows of pairs: class and probability."""
        probs, classes = torch.softmax(data["out"], dim=1).max(dim=1)
        return torch.stack([classes.to(probs.dtype), probs], dim=3).tolist()
