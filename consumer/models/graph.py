"""A network as a graph of its layers, in which several layers can become one.

A network is written for training and for reading: convolution, batch norm and activation are modules of their own. In
evaluation mode a batch norm is a scale and a shift, which belong into the convolution before it. Whoever changes a
graph here compares its outputs with the network's own (``recipe.py``): what does not fit is found out there.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .fused_layers import Activation, GlobalPool, PackedConv, PackedLinear


class DoesNotFit(Exception):
    """A network that this cannot be done to; it runs as it is written."""


class _Tracer(fx.Tracer):
    """Traces through modules of any library; kinds whose code depends on values stay modules.

    Args:
        opaque: kinds of modules that are not looked into.
    """

    def __init__(self, opaque: set[type[nn.Module]]) -> None:
        super().__init__()
        self._opaque = opaque
        self.culprit: type[nn.Module] | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in self._opaque or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.culprit = self.culprit or type(m)  # the innermost one is the first to see the error
            raise


def traced(network: nn.Module) -> fx.GraphModule:
    """Return ``network`` as a graph over copies of its modules, without dropout.

    Raises:
        DoesNotFit: the network's code depends on more than its layers.
    """
    network = copy.deepcopy(network).eval()
    opaque: set[type[nn.Module]] = set()
    while True:
        tracer = _Tracer(opaque)
        try:
            graph = tracer.trace(network)
            break
        except Exception as error:
            if tracer.culprit is None or tracer.culprit in opaque:
                raise DoesNotFit(f"it cannot be traced: {error}") from error
            opaque.add(tracer.culprit)
    module = fx.GraphModule(network, graph)
    for node in list(module.graph.nodes):
        if isinstance(_module(node, module), nn.Dropout | nn.Identity):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    return _finished(module)


def fold_batch_norms(module: fx.GraphModule) -> fx.GraphModule:
    """Fold every batch norm that follows a convolution into it, in place; fp32.

    Raises:
        DoesNotFit: there is none.
    """
    folded = 0
    for node in list(module.graph.nodes):
        norm, before = _module(node, module), _first_argument(node)
        conv = None if before is None else _module(before, module)
        if type(norm) is nn.BatchNorm2d and type(conv) is nn.Conv2d and before is not None and len(before.users) == 1:
            if norm.running_mean is None or _uses(module, before.target) > 1:
                continue
            module.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            module.graph.erase_node(node)
            folded += 1
    if not folded:
        raise DoesNotFit("no batch norm follows a convolution.")
    return _finished(module)


def fold_scale(module: fx.GraphModule, scale: torch.Tensor) -> fx.GraphModule:
    """Fold a factor per input channel into the first convolution, in place.

    Only a factor: zeros, with which the convolution pads, stay zeros. A shift would be wrong at the borders.

    Raises:
        DoesNotFit: the input does not go into exactly one convolution.
    """
    source = next(node for node in module.graph.nodes if node.op == "placeholder")
    users = list(source.users)
    conv = _module(users[0], module) if len(users) == 1 else None
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.in_channels != len(scale):
        raise DoesNotFit("the input does not go into one convolution.")
    with torch.no_grad():
        conv.weight.mul_(scale.to(conv.weight).view(1, -1, 1, 1))
    return module


def fuse_activations(module: fx.GraphModule) -> fx.GraphModule:
    """Put the activations and shortcuts into the convolutions and linear layers before them, for oneDNN; in place.

    Raises:
        DoesNotFit: the network has no layer for which that can be done.
    """
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    fused = 0
    for node in list(module.graph.nodes):
        layer, keeps = _module(node, module), _global_pool(node, module)
        if type(layer) is nn.Conv2d and _uses(module, node.target) == 1:
            fused += _fuse_convolution(node, layer, module, order)
        elif type(layer) is nn.Linear and _uses(module, node.target) == 1:
            fused += 1
            _become(node, PackedLinear(layer, _take_activation(node, module) or Activation()), module)
        elif keeps is not None:
            _become(node, GlobalPool(keeps), module)
    if not fused:
        raise DoesNotFit("it has no convolution or linear layer of torch's own.")
    return _finished(module)


def _fuse_convolution(node: fx.Node, conv: nn.Conv2d, module: fx.GraphModule, order: dict[fx.Node, int]) -> int:
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return 0
    shortcut = _take_shortcut(node, module, order)
    activation = _take_activation(node, module, only_relu=shortcut is not None) or Activation()
    if shortcut is not None:
        node.args = (*node.args, shortcut)
    _become(node, PackedConv(conv, activation, shortcut is not None), module)
    return 1


def _take_shortcut(node: fx.Node, module: fx.GraphModule, order: dict[fx.Node, int]) -> fx.Node | None:
    """Remove the sum that follows ``node`` and return what is added, if that is known before ``node`` runs."""
    sum_ = _only_user(node)
    if sum_ is None or sum_.op != "call_function" or sum_.target not in (operator.add, operator.iadd, torch.add):
        return None
    others = [argument for argument in sum_.args if argument is not node]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or sum_.kwargs or order[others[0]] > order[node]:
        return None
    sum_.replace_all_uses_with(node)
    module.graph.erase_node(sum_)
    return others[0]


def _take_activation(node: fx.Node, module: fx.GraphModule, only_relu: bool = False) -> Activation | None:
    """Remove the activation that follows ``node`` and return it."""
    user = _only_user(node)
    activation = None if user is None else _activation(user, module)
    if user is None or activation is None or (only_relu and activation.name != "relu"):
        return None
    user.replace_all_uses_with(node)
    module.graph.erase_node(user)
    return activation


_BY_KIND: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Hardswish: "hardswish",
    nn.SiLU: "swish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}
_BY_FUNCTION: dict[Any, str] = {
    functional.relu: "relu",
    torch.relu: "relu",
    functional.hardswish: "hardswish",
    functional.silu: "swish",
    functional.hardsigmoid: "hardsigmoid",
    torch.sigmoid: "sigmoid",
    torch.tanh: "tanh",
}


def _activation(node: fx.Node, module: fx.GraphModule) -> Activation | None:
    layer = _module(node, module)
    if isinstance(layer, nn.Hardtanh):  # ReLU6 is one
        return Activation("hardtanh", (float(layer.min_val), float(layer.max_val)))
    if type(layer) is nn.GELU:
        return Activation("gelu", (), layer.approximate)
    name = _BY_KIND.get(type(layer)) if layer is not None else None
    if name is None and node.op == "call_function" and len(node.args) == 1:
        name = _BY_FUNCTION.get(node.target)
    return Activation(name) if name else None


def _global_pool(node: fx.Node, module: fx.GraphModule) -> bool | None:
    """Say whether ``node`` is a mean over height and width that keeps these dimensions; None if it is no such mean."""
    layer = _module(node, module)
    if type(layer) is nn.AdaptiveAvgPool2d:
        return True if layer.output_size in (1, (1, 1)) else None
    if node.op == "call_function" and node.target is functional.adaptive_avg_pool2d:
        return True if node.args[1:] in ((1,), ((1, 1),)) else None
    if node.op == "call_method" and node.target == "mean" and node.args[1:] and node.args[1] in ((2, 3), [2, 3]):
        return bool(node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False))
    return None


def _module(node: fx.Node, module: fx.GraphModule) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _first_argument(node: fx.Node) -> fx.Node | None:
    return node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _uses(module: fx.GraphModule, target: Any) -> int:
    """How often a module is called: what two places share must not be changed for one of them."""
    return sum(node.op == "call_module" and node.target == target for node in module.graph.nodes)


def _become(node: fx.Node, layer: nn.Module, module: fx.GraphModule) -> None:
    name = f"fused_{len(module._modules)}"
    module.add_module(name, layer)
    node.op, node.target, node.args, node.kwargs = "call_module", name, node.args[:1] + node.args[1:2], {}
    if isinstance(layer, GlobalPool | PackedLinear):
        node.args = node.args[:1]


def _finished(module: fx.GraphModule) -> fx.GraphModule:
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    module.delete_all_unused_submodules()
    return module
