"""The families of models: what ``family`` in ``models.toml`` names. To add one, add it to this table.

Here, so that front ends and operators' commands know them without importing a consumer. Packages add more through an
entry point of the group ``headrace.families``, which names a :class:`Family`; ``docs/models.md`` has an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .modules import PHOTO

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "headrace.families"
LIBRARIES = ("", "torch", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model.

    Attributes:
        build: ``package.module:function``. A consumer calls it with the model's table
            (``shared.model_config.ModelConfig``) and the threads of a batch; it returns a
            ``consumer.models.base.Model`` for which nothing heavy has happened yet.
        needs: keys that a table must have, and what each of them is.
        library: the one whose GPU a model takes where there is one: ``torch``, ``onnxruntime``, or empty for torch only
            if ``build`` has imported it.
        is_checked: what a model's methods return is checked, and its batches are run in parts once memory has run out.
        is_network: models are torch networks that classify, for which runtimes are tried; ours only.
        computes: models need a core of their own; ours only.
        is_one_process: on a CPU one process serves a model, with threads on all cores, because each step reads all
            weights; ours only.
        sample: content type and data of a request that any model takes, as for ``curl``; ours only.
    """

    build: str
    needs: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    is_checked: bool = True
    is_network: bool = False
    computes: bool = True
    is_one_process: bool = False
    sample: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        needs = isinstance(self.needs, Mapping) and all(isinstance(key, str) for key in self.needs)
        if not (isinstance(self.build, str) and needs and self.library in LIBRARIES):
            raise ValueError(
                "a Family has build, a text such as 'package.module:function', needs, a mapping from keys to what they "
                f"are, and library, one of {', '.join(map(repr, LIBRARIES))}"
            )


def _network(build: str) -> Family:
    needs = {"architecture": "the name of a network", "weights": "the path of a file, random, or another source"}
    photo = ("image/jpeg", f"@{PHOTO}")
    return Family(build, needs, "torch", is_checked=False, is_network=True, sample=photo)


FAMILIES = {
    "echo": Family(
        "consumer.models.echo:build",
        is_checked=False,
        computes=False,
        sample=("application/octet-stream", "hello"),
    ),
    "timm": _network("consumer.models.vision.timm:build"),
    "torchvision": _network("consumer.models.vision.torchvision:build"),
    "onnx": Family(
        "consumer.models.onnx.onnx_family:build",
        {"weights": "the path of an ONNX file"},
        "onnxruntime",
        is_checked=False,
    ),
    "generate": Family(
        "consumer.models.generate.generate_family:build",
        library="torch",
        is_checked=False,
        is_one_process=True,
        sample=("application/json", '{"generate": {"prompt": "Once upon a time", "max_tokens": 20}}'),
    ),
    "text": Family(
        "consumer.models.text.text_family:build",
        {"weights": "the path of a folder with config.json, or package:NAME"},
        "torch",
        is_checked=False,
        sample=("text/plain", "A text."),
    ),
    "torchserve": Family(
        "consumer.models.torchserve.torchserve_family:build",
        {"weights": "the path of a .mar or .tar.gz archive, of the folder of one, or of a handler's file"},
        "torch",
    ),
    "python": Family("consumer.models.own.python_family:build", {"entry": "'package.module:factory'"}),
}

_OF_A_PACKAGE = Family("")


def known(name: str) -> Family:
    """Return what is known of a family without importing anything: of a package's, nothing in particular."""
    return FAMILIES.get(name, _OF_A_PACKAGE)


def added_by(name: str) -> dict[str, EntryPoint]:
    """Return the installed packages that add a family, and the entry point of each; none of them is imported [I/O].

    A family of ours is not to be replaced, and of several packages none is better than another.
    """
    from importlib import metadata  # which takes longer to import than all that most processes ask here

    found: dict[str, EntryPoint] = {}
    for package in metadata.distributions():
        try:
            for point in package.entry_points.select(group=GROUP, name=name):
                found.setdefault(package.name, point)  # the first on the path hides the others
        except Exception:  # its metadata is damaged, or it has none
            continue
    return found
