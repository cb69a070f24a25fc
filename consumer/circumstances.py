"""What every measurement at start depends on, so that it is used again only where nothing of it has changed."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

from shared.version import __version__

from .config import ConsumerConfig


def circumstances(config: ConsumerConfig, device: str) -> dict[str, str]:
    """Name everything that decides which recipe and precision are fastest: model, weights, machine, libraries."""
    model = config.model
    found = {
        "headrace": __version__,
        "model": f"{model.family} {model.architecture} {model.entry} {model.options} {model.version}",
        "weights": _weights(model.weights or ""),
        "preprocessing": str(model.preprocessing),
        "max_batch": str(config.max_batch),
        "asked": f"{config.precision} {config.settings.recipe}",
        "machine": f"{device} {_processor()}",
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        from .models.instructions import this_processor

        # Whatever forbids torch some of the processor's instructions makes it another one.
        found["torch"] = f"{torch.__version__} with {torch.get_num_threads()} threads on {this_processor()}"
        if device == "cuda":
            found["machine"] += f" {torch.cuda.get_device_name()}"
    return found


def _weights(source: str) -> str:
    """Name weights so that a file that was replaced has another name."""
    from .models.weights import package_file

    try:
        path = package_file(source.removeprefix("package:")) if source.startswith("package:") else Path(source)
        status = path.stat()
    except (OSError, ValueError):  # no file; one that is missing is told when it is read
        return source
    return f"{source} of {status.st_size} bytes at {status.st_mtime_ns}"


def _processor() -> str:
    """Name this machine's processor and what it can do."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("model name", "model\t", "flags", "Features", "CPU part")
    lines = "\n".join(line for line in text.splitlines() if line.startswith(kept))
    name = next((line.partition(":")[2].strip() for line in lines.splitlines() if line.startswith("model name")), "")
    return f"{platform.machine()} {name} {hashlib.sha256(lines.encode()).hexdigest()[:12]}"
