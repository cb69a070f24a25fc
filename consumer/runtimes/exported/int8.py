"""An ONNX file quantised to int8 by ONNX Runtime's own tool, with the ranges of activations from sample pictures.

What keeps the loss small, measured on EfficientNet-Lite0 (largest difference from fp32 on 32 pictures; AMD EPYC with
AVX-512 and VNNI):

- Activations are quantised behind ReLU and Clip, not before: 47% without that, 12% with it.
- Weights are rounded before the export, in torch, where biases can make up for it (``half.on_grid``): 6%.
- What reads the pixels stays in fp32 where its filters are small; in int8 it would be slower. So does what has one
  number per channel, as in squeeze and excitation: there is nothing to save.
- The last layer stays in fp32: the ranges of logits are those of the samples, and a photograph that a network is surer
  of would be cut off at them (22% on a photograph).
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from consumer.runtimes.base import CannotRun, Pixels
from consumer.runtimes.libraries import missing, said

if TYPE_CHECKING:
    from torch import nn

    from consumer.runtimes.network import Network

BATCH = 8
STEPS, NARROW_STEPS = 127, 64
WEIGHTED = ("Conv", "Gemm", "MatMul")
QUANTISED = (*WEIGHTED, "Relu", "Clip")
SMALL_FILTER = 64
"""Numbers of a filter, up to which a dot product in int8 is no faster than in fp32."""
_POOLED = ("GlobalAveragePool", "ReduceMean")
_X86 = ("x86_64", "amd64", "i386", "i686")


def for_int8(samples: Sequence[Pixels]) -> Callable[[Network], nn.Module]:
    """Return what rounds a network's weights to the steps that they will be quantised with.

    Args:
        samples: pictures to take the means of activations from.
    """
    from consumer.runtimes.network import normalised_samples
    from consumer.runtimes.pytorch import half_precision

    steps = NARROW_STEPS if saturates() else STEPS
    return lambda network: half_precision.on_grid(network, steps, normalised_samples(network, samples))


def saturates() -> bool:
    """Say whether this processor's sums of products of 8 bits overflow: x86 without VNNI adds two of them in 16."""
    from consumer.runtimes.instructions import this_processor

    if platform.machine().lower() not in _X86:
        return False
    flags = this_processor().flags
    return flags.isdisjoint(("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"))


def quantise(source: Path, target: Path, samples: Sequence[Pixels]) -> None:
    """Write ``source`` to ``target`` with weights and activations of 8 bits.

    Args:
        samples: pictures to take the ranges of activations from.

    Raises:
        CannotRun: it cannot be quantised.
    """
    why = missing("onnxruntime", "consumer")
    if why:
        raise CannotRun(why)
    prepared = target.with_name("prepared.onnx")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the tool tells the root logger of each copy that it makes
    try:
        from onnxruntime import quantization

        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            _reader(quantization, samples),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_left_out(prepared),
            per_channel=True,
            reduce_range=saturates(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    except Exception as error:
        raise CannotRun(f"it cannot be quantised: {said(error)}.") from error
    finally:
        logging.disable(before)
        prepared.unlink(missing_ok=True)


def _left_out(path: Path) -> list[str]:
    """Return the names of the layers that stay in fp32, with the activations that follow them."""
    import onnx

    graph = onnx.load(str(path)).graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    weighted = [node for node in graph.node if node.op_type in WEIGHTED and len(shapes.get(node.input[1], ())) > 1]
    pooled = _of_one_number(graph, users)
    left = [node for node in weighted if node.name in pooled] + weighted[-1:]
    if weighted and np.prod(shapes[weighted[0].input[1]][1:]) < SMALL_FILTER:
        left.append(weighted[0])
    if {node.name for node in weighted} == {node.name for node in left}:
        raise CannotRun("it has no layers that are faster in int8")
    return [one.name for node in left for one in (node, *users.get(node.output[0], ())) if one.op_type in QUANTISED]


def _of_one_number(graph: Any, users: dict[str, list[Any]]) -> set[str]:
    """Return the convolutions of squeeze and excitation: what follows a pooling and ends where it is multiplied."""
    found: set[str] = set()
    waiting = [node for node in graph.node if node.op_type in _POOLED]
    while waiting:
        for node in users.get(waiting.pop().output[0], ()):
            is_way = node.op_type in ("Conv", "Relu", "Clip", "Sigmoid", "HardSigmoid")
            if is_way and node.name not in found:
                found.add(node.name)
                waiting.append(node)
    return found


def _reader(quantization: Any, samples: Sequence[Pixels]) -> Any:
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[Any] = (
                {"input": np.stack(samples[start : start + BATCH])} for start in range(0, len(samples), BATCH)
            )

        def get_next(self) -> Any:
            return next(self._batches, None)

    return Reader()
