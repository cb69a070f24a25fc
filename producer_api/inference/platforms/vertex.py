"""Vertex AI: ``{"instances": […]}`` at the path that ``AIP_PREDICT_ROUTE`` names, to the chosen model.

https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements; ``AIP_HTTP_PORT`` and
``AIP_HEALTH_ROUTE`` are settings, too (``shared/settings.py``).
"""

from __future__ import annotations

from producer_api.inference.codec import Head
from producer_api.parsing.steps import Steps

from .chosen import ChosenModel
from .kserve_v1 import Instances


class Vertex(Instances):
    """The dialect of KServe's version 1, which is that of Vertex; the path names no model.

    Args:
        chosen: returns the name of the model.
    """

    def __init__(self, chosen: ChosenModel) -> None:
        self._chosen = chosen

    def model_name(self, head: Head, body: bytes) -> Steps[str]:
        """See the interface."""
        return self._chosen()
        yield  # it is a generator all the same
