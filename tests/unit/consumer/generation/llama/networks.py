"""Small models of the Llama family with random weights, and the slot engine over Headrace's own code for them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

from consumer.generation import null_engine
from consumer.generation.slots.engine import SlotEngine
from tests.unit.consumer.generation.engines import CONTEXT, Kind, null

SIZES: dict[str, Any] = {
    "vocab_size": null_engine.VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.7,
}
ARCHITECTURES = ("llama", "mistral", "qwen2")


@cache
def model(architecture: str) -> Any:
    """Return one of ``ARCHITECTURES``; a copy is to be used up, not this one."""
    return made(architecture)


def made(architecture: str, **more: Any) -> Any:
    """Make one of ``ARCHITECTURES``.

    Args:
        more: members of its configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **{**SIZES, **more})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # zeros and ones would hide much
                parameter.normal_(mean=float("norm" in name), std=0.4)
    model.generation_config = GenerationConfig()
    return model


def engine(slots: int, prefill: int, made: Any, context: int = CONTEXT) -> SlotEngine:
    """Return the slot engine over a copy of ``made``."""
    from consumer.generation.slots.llama import LlamaNetwork

    network = LlamaNetwork(deepcopy(made), slots, context)
    return SlotEngine(network, null_engine.decode, (null_engine.END,), alone=prefill, beside=prefill)


@cache
def _network(architecture: str, slots: int) -> Any:
    from consumer.generation.slots.llama import LlamaNetwork

    return LlamaNetwork(deepcopy(model(architecture)), slots, CONTEXT)


def kind(architecture: str) -> Kind:
    """Return an engine for the contract. Those with as many slots share a network, so only one of them may run."""

    def make(slots: int, prefill: int) -> SlotEngine:
        network = _network(architecture, slots)
        return SlotEngine(network, null_engine.decode, (null_engine.END,), alone=prefill, beside=prefill)

    return replace(null(), make=make)
