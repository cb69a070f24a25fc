"""A network as a graph of its layers, in which a batch norm becomes part of the convolution before it.

In evaluation mode a batch norm is a scale and a shift. In 16 bits that matters beyond speed: only a convolution with a
bias can make up for what the rounding of its weights changes (``half.py``).
"""

from __future__ import annotations

import copy
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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


def _module(node: fx.Node, module: fx.GraphModule) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _first_argument(node: fx.Node) -> fx.Node | None:
    return node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None


def _uses(module: fx.GraphModule, target: Any) -> int:
    """How often a module is called: what two places share must not be changed for one of them."""
    return sum(node.op == "call_module" and node.target == target for node in module.graph.nodes)


def _finished(module: fx.GraphModule) -> fx.GraphModule:
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    module.delete_all_unused_submodules()
    return module
