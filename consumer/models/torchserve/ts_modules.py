"""The modules named ``ts`` that handlers import: ours, under those names, in this process alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from shared.modules import full_name

_HANDLERS = ("base_handler", "vision_handler", "image_classifier", "image_segmenter", "object_detector")
_TEXTS = ("text_handler", "text_classifier")

_MODULES = {
    "ts": None,
    "ts.torch_handler": None,
    "ts.utils": None,
    "ts.metrics": None,
    "ts.handler_utils": None,
    "ts.context": "context",
    "ts.utils.util": "util",
    "ts.metrics.dimension": "metrics",
    "ts.metrics.metric_type_enum": "metrics",
    "ts.handler_utils.timer": "util",
    **{f"ts.torch_handler.{name}": name for name in (*_HANDLERS, *_TEXTS)},
}
"""What there is, and which of our modules it is; None for a package, which only has others."""

_OURS = full_name("consumer.models.torchserve.ts.")
_PACKAGE_NAMES = {"ts.metrics": "metrics", "ts": "version"}


def provide() -> None:
    """Let ``import ts`` find these modules from here on, also where the package ``torchserve`` is installed."""
    if not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def names() -> str:
    """Return the names of what there is, for a sentence."""
    return f"there are {', '.join(name for name, ours in _MODULES.items() if ours is not None)}."


def takes_pictures(kind: type) -> bool:
    """Say whether a handler takes any photograph: its ``image_processing`` is ours, not one of its own."""
    makers = (one for one in kind.__mro__ if "image_processing" in vars(one))
    return next((one.__module__.startswith(_OURS) for one in makers), False)


class _Finder(MetaPathFinder, Loader):
    """Finds ``ts`` and what is below it, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=_MODULES[fullname] is None)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        ours = _MODULES[module.__name__] or _PACKAGE_NAMES.get(module.__name__)
        if ours is None:
            return
        found = importlib.import_module(_OURS + ours)
        module.__dict__.update({name: one for name, one in vars(found).items() if not name.startswith("__")})
        if module.__name__ == "ts":
            module.__dict__["__version__"] = vars(found)["VERSION"]
