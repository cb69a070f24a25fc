"""GGUF files, converted once: to a folder as transformers saves it, which loads in a second and not in half a minute.

Processes of one machine convert a file once: the others wait. A conversion that was interrupted begins anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

log = logging.getLogger(__name__)

FORMAT = 2
"""Rises when what is written changes."""

COMPLETE = "complete.json"
_EDGE_BYTES = 4 << 20


def converted(file: Path, folder: Path) -> Path:
    """Return the folder with the converted ``file``; converts it if that was not done.

    Args:
        folder: where converted files are kept.

    Raises:
        ValueError: it cannot be read or written; one sentence.
    """
    target = folder / f"{file.stem}-{_digest(file)}"
    if _is_complete(target):
        return target
    try:
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(target.with_suffix(".lock"), file):
            if not _is_complete(target):
                _convert_into(target, file)
    except OSError as error:
        raise ValueError(f"{file} cannot be converted into {folder}: {error}.") from error
    return target


def _digest(file: Path) -> str:
    """Return what names the file's content and how it is converted: its size, and what its ends hold."""
    size = file.stat().st_size
    digest = hashlib.sha256(f"{FORMAT} {size} ".encode())
    with file.open("rb") as opened:
        digest.update(opened.read(_EDGE_BYTES))
        opened.seek(max(0, size - _EDGE_BYTES))
        digest.update(opened.read(_EDGE_BYTES))
    return digest.hexdigest()[:16]


def _is_complete(target: Path) -> bool:
    """Say whether all files are there, in the sizes in which they were written."""
    try:
        sizes = json.loads((target / COMPLETE).read_text())
        return bool(sizes) and all((target / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def _alone(lock: Path, file: Path) -> Iterator[None]:
    with lock.open("wb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Another process converts %s; waiting for it.", file.name)
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _convert_into(target: Path, file: Path) -> None:
    for left in target.parent.glob(f".{target.name}-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        begun_s = monotonic()
        _write(file, temporary)
        sizes = {path.name: path.stat().st_size for path in temporary.iterdir()}
        (temporary / COMPLETE).write_text(json.dumps(sizes))
        os.replace(temporary, target)
        log.info("%s is converted, in %.0f s; from now on it loads from %s.", file.name, monotonic() - begun_s, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write(file: Path, folder: Path) -> None:
    """Read ``file`` by transformers and write weights in fp32, configuration, tokeniser and chat template."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .quiet import quiet

    given = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    log.info("Converting %s, once: step 1 of 3, its weights.", file.name)
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **given)
            log.info("Converting %s: step 2 of 3, its tokeniser.", file.name)
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **given)
            log.info("Converting %s: step 3 of 3, writing.", file.name)
            save_file(_named_once(model), str(folder / "model.safetensors"), metadata={"format": "pt"})
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{file} cannot be converted: {type(error).__name__}: {str(error)[:300]}.") from error


def _named_once(model: Any) -> dict[str, Any]:
    """Return the weights, those that are tied to others left out: so every library finds them by their first name."""
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
