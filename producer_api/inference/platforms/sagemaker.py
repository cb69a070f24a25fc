"""Amazon SageMaker: ``POST /invocations`` is a predict request to the chosen model; ``GET /ping`` is readiness.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

from producer_api.inference.codec import Head
from producer_api.inference.native import Native
from producer_api.parsing.steps import Steps

from .chosen import ChosenModel

INVOCATIONS = "/invocations"
PING = "/ping"


class Invocations(Native):
    """Our own dialect; the path names no model.

    Args:
        chosen: returns the name of the model.
    """

    def __init__(self, chosen: ChosenModel) -> None:
        self._chosen = chosen

    def model_name(self, head: Head, body: bytes) -> Steps[str]:
        """See the interface."""
        return self._chosen()
        yield  # it is a generator all the same
