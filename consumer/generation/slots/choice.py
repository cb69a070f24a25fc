"""Which code computes a model in slots."""

from __future__ import annotations

import logging
from collections.abc import Callable

from transformers import PreTrainedModel

from consumer.runtimes.pytorch import packed_linear

from .engine import Network
from .limits import CannotServe
from .llama import LlamaNetwork, knows
from .network import SlotNetwork

log = logging.getLogger(__name__)


def network_of(read: Callable[[], PreTrainedModel], slots: int, context: int) -> Network:
    """Make a network of a model: with code of our own where it knows the model, else with transformers' modules.

    Args:
        read: reads the model, with its linear layers as they are; called again if our own code computes something else.
        slots: sequences at once.
        context: most tokens of a sequence.

    Raises:
        CannotServe: neither computes what the model does.
        ValueError: it cannot be read.
    """
    model = read()
    if knows(model):
        kind = model.config.model_type
        try:
            network = LlamaNetwork(model, slots, context)
            log.info("Headrace's own code for the Llama family computes this model, a %r.", kind)
            return network
        except CannotServe as error:
            log.warning("transformers' modules compute this %r, and not Headrace's own code: %s", kind, error)
        del model  # before there is a second one
        model = read()
    packed_linear.pack(model)
    return SlotNetwork(model, slots, context)
