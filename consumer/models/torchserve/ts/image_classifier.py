"""Classifies pictures: probabilities by labels, the most probable ones."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms

from .util import map_class_to_label
from .vision_handler import VisionHandler, in_colour


class ImageClassifier(VisionHandler):
    """See the module.

    Attributes:
        topk: how many labels an answer has.
    """

    topk = 5
    image_processing = transforms.Compose(
        [
            in_colour,
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )

    def set_max_result_classes(self, topk: int) -> None:
        """Set how many labels an answer has."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """Return how many labels an answer has."""
        return self.topk

    def postprocess(self, data: Any) -> Any:
        """Return for each picture its most probable labels."""
        found = torch.softmax(data, dim=1)
        probs, classes = torch.topk(found, min(self.topk, found.shape[1]), dim=1)
        return map_class_to_label(probs.tolist(), self.mapping, classes.tolist())
