"""A network as an ONNX file that takes pictures as they come: the bytes of pixels in, logits out.

Reordering, converting to floats and normalising are part of the file. So whatever runs it needs no code of ours, and
does these steps in its own threads beside the first layers.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from consumer.runtimes.base import CannotRun
from consumer.runtimes.libraries import missing, said
from consumer.runtimes.network import Network, normalised_samples
from consumer.runtimes.pytorch import half_precision

INPUT, OUTPUT = "input", "logits"
OPSET = 18
"""Of ONNX. Every runtime here knows it; a newer one would only shut out older runtimes."""
EXAMPLE_ROWS = 2
MOST_BYTES = (2 << 30) - (16 << 20)
"""Of weights: a file of protocol buffers ends at 2 GiB, and the layers need a little of it."""


class FromBytes(nn.Module):
    """A network with its normalisation in front: uint8 (n, side, side, 3) to float32 logits (n, classes)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, network: Network) -> None:
        super().__init__()
        self.module = module
        mean, std = torch.tensor(network.preprocessing.mean), torch.tensor(network.preprocessing.std)
        self.register_buffer("mean", (mean * 255).view(1, 3, 1, 1))
        self.register_buffer("scale", (1 / (std * 255)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise and run."""
        pictures = pixels.permute(0, 3, 1, 2).to(torch.float32)
        logits: Tensor = self.module((pictures - self.mean) * self.scale)
        return logits


def to_onnx(network: Network, path: Path, prepare: Callable[[Network], nn.Module] | None = None) -> None:
    """Write ``network`` to ``path``, in float32.

    Args:
        prepare: makes the module to export of the network, such as :func:`for_bf16`. None: an equal one of torch's own
            layers, where the family knows how; runtimes know these best.

    Raises:
        CannotRun: it cannot be exported, or would not do what the network does.
    """
    why = missing("onnx", "consumer") or _too_large(network.module)
    if why:
        raise CannotRun(why)
    side = network.preprocessing.crop
    example = torch.zeros((EXAMPLE_ROWS, side, side, 3), dtype=torch.uint8)
    try:
        module = (prepare or _simple)(network)
        whole = FromBytes(module, network).eval()
        remarks = _write(whole, example, path)
    except Exception as error:  # it is anybody's code that is traced
        raise CannotRun(f"it cannot be exported to ONNX: {said(error)}.") from error
    if any(issubclass(remark.category, TracerWarning) for remark in remarks):
        _follow(whole, example)


def for_bf16(network: Network) -> nn.Module:
    """Return the module with weights that bf16 can hold, and biases that make up for the rounding.

    A runtime that computes in bf16 then loses nothing when it rounds them.
    """
    return half_precision.prepared(network, torch.bfloat16, normalised_samples(network)).float()


def _simple(network: Network) -> nn.Module:
    return network.simplify(network.module, normalised_samples(network)) if network.simplify else network.module


def _too_large(module: nn.Module) -> str:
    size = sum(one.numel() * one.element_size() for one in chain(module.parameters(), module.buffers()))
    if size <= MOST_BYTES:
        return ""
    return f"it cannot be exported to ONNX: its weights take {size / 1e9:.1f} GB, and a file holds 2."


def _write(whole: nn.Module, example: Tensor, path: Path) -> list[warnings.WarningMessage]:
    """Export, and return what the exporter remarked."""
    with warnings.catch_warnings(record=True) as remarks, torch.inference_mode(), _quiet():
        warnings.simplefilter("always")
        torch.onnx.export(
            whole,
            (example,),
            str(path),
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            opset_version=OPSET,
        )
    return remarks


def _follow(whole: nn.Module, example: Tensor) -> None:
    """Run the network on an input that has a shape and no values, since what is exported cannot ask for values.

    The exporter takes one way through the network's code for all inputs. It remarks on every number that the code
    asks for, of which most are sizes and do no harm; other ones may decide which way to take. Comparing outputs would
    find that only if the samples take different ways.

    Raises:
        CannotRun: the code asks for values.
    """
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with torch.no_grad():
            whole(mode.from_tensor(example))
    except DataDependentOutputException as error:
        raise CannotRun(
            "it cannot be exported to ONNX: its code looks at values, and a file does the same for all."
        ) from error
    except Exception as error:
        raise CannotRun(f"it cannot be exported to ONNX: its code cannot be followed: {said(error)}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from logging and from printing whole graphs to the standard output of this process."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
        logging.disable(disabled)
