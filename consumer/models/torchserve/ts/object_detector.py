"""Finds objects in pictures: for each the corners of its box, by its label, and its score."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms

from .util import map_class_to_label
from .vision_handler import VisionHandler, in_colour


class ObjectDetector(VisionHandler):
    """See the module; the network takes a list of pictures and answers boxes, labels and scores of each.

    Attributes:
        threshold: the least score that an answer has.
    """

    threshold = 0.5
    image_processing = transforms.Compose([in_colour, transforms.ToTensor()])

    def preprocess(self, data: Any) -> Any:
        """Return a list: pictures differ in size."""
        return [self._tensor(row.get("data", row.get("body"))).to(self.device) for row in data]

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        with torch.inference_mode():
            found = self.model(data, *args, **kwargs)
        return found[1] if isinstance(found, tuple) else found  # TorchScript answers losses, too

    def postprocess(self, data: Any) -> Any:
        """Return for each picture a list of maps."""
        return [self._found(one) for one in data]

    def _found(self, one: Any) -> list[dict[str, Any]]:
        kept = one["scores"] >= self.threshold
        boxes, labels = one["boxes"][kept].tolist(), one["labels"][kept].tolist()
        scores = one["scores"][kept].tolist()
        named = map_class_to_label([[box] for box in boxes], self.mapping, [[label] for label in labels])
        return [{**box, "score": score} for box, score in zip(named, scores, strict=True)]
