"""The fingerprint of a search: everything its result depends on, so that a change leads to a new search [I/O].

Versions come from the packages' metadata: a process that finds everything in the folder must not import torch to ask.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import stat
from pathlib import Path

from consumer.batch_threads import threads_of
from consumer.config import ConsumerConfig
from shared.version import __version__

LIBRARIES = ("torch", "torchvision", "timm", "onnxruntime", "openvino", "onnx")
MOST_BYTES = 8 << 30
"""Of a file that is read through; that takes some seconds."""

MOST_SAMPLES = 64
"""Files of a folder of samples that are read; no more than 16 pictures of it are used."""
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that forbid a library some of the processor's instructions, which makes it another one."""


def fingerprint(config: ConsumerConfig, device: str) -> dict[str, str]:
    """Collect everything that decides which runtime is fastest, and what goes into the exported file."""
    model, settings = config.model, config.settings
    return {
        "headrace": __version__,
        "libraries": " ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "network": f"{model.family} {model.architecture}",
        "weights": content_of(model.weights or ""),
        "labels": content_of(model.labels or ""),
        "samples": contents_of(model.samples or ""),
        "preprocessing": str(model.preprocessing),
        "batches": ",".join(map(str, config.buckets)),
        "asked": f"{config.precision} {settings.runtime or model.runtime}",
        "machine": f"{device} {processor()} {threads_of(settings, device)} threads {_limits()}{_gpu(device)}",
    }


def content_of(source: str) -> str:
    """Identify a file by its content; return the source itself if it is not a regular file.

    A file that is too large is identified by its size and time; loading it will say what is wrong with it.
    """
    from consumer.models.weights import package_file

    try:
        path = package_file(source.removeprefix("package:")) if source.startswith("package:") else Path(source)
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return source
        if found.st_size > MOST_BYTES:
            return f"{source} {found.st_size} {found.st_mtime_ns}"
        if not path.is_file():  # a pipe could be waited for
            return source
        with path.open("rb") as file:
            return f"{source.rpartition('/')[2]} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except (OSError, ValueError):  # not a file; loading it will say that it is missing
        return source


def contents_of(folder: str) -> str:
    """Name a folder by the names of its files and what is in the first of them; one that cannot be read by its own."""
    if not folder:
        return ""
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    except OSError:  # told when it is read
        return folder
    names = [path.name for path in paths]
    told = [content_of(str(path)) for path in paths[:MOST_SAMPLES]]
    return f"{len(names)} files {hashlib.sha256(repr((names, told)).encode()).hexdigest()}"


def processor() -> str:
    """Name this machine's processor and what it can do."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("model name", "model\t", "flags", "Features", "CPU part")
    lines = "\n".join(line for line in text.splitlines() if line.startswith(kept))
    name = next((line.partition(":")[2].strip() for line in lines.splitlines() if line.startswith("model name")), "")
    return f"{platform.machine()} {name} {hashlib.sha256(lines.encode()).hexdigest()[:12]}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _limits() -> str:
    return " ".join(f"{name}={os.environ[name]}" for name in _LIMITS if os.environ.get(name))


def _gpu(device: str) -> str:
    if device != "cuda":
        return ""
    import torch

    return f" {torch.cuda.get_device_name()}"
