"""Reading weights: only tensors, never code. A pickle that would run something when opened is refused unopened."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .packages import folders_of

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".pt", ".pth", ".safetensors")


def package_file(name: str) -> Path:
    """Find the one weights file that the installed package ``name`` carries; the package is not imported.

    Raises:
        ValueError: no such package, or it does not carry exactly one file of weights.
    """
    folders = folders_of(name)
    if not folders:
        raise ValueError(f"the package {name!r}, which carries the weights, is not installed.")
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES)
    if len(files) != 1:
        raise ValueError(f"the package {name!r} carries {len(files)} files of weights; exactly one was expected.")
    return files[0]


def read(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.pt``, ``.pth`` or ``.safetensors`` file onto the CPU.

    Raises:
        ValueError: no such file, another suffix, damaged, not a state dict, or a pickle with code in it.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"weights must be DEFAULT, random, package:NAME or a {', '.join(SUFFIXES)} file, not '{path}'."
        )
    if not path.is_file():
        raise ValueError(f"the weights file {path} does not exist.")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return checked(state, str(path))


def checked(state: object, source: str) -> dict[str, Tensor]:
    """Return ``state`` if it maps names to tensors.

    Raises:
        ValueError: it does not.
    """
    import torch

    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{source} holds a {type(state).__name__}, not a state dict.")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{source} is not a plain state dict, because its member {str(name)[:80]!r} is a "
                f"{type(value).__name__}; save it with torch.save(model.state_dict(), PATH)."
            )
    return dict(state)


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file: {error}.") from error


def _read_pickle(path: Path) -> object:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickles that it then refuses anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than weights, or is damaged; it was not loaded, because a pickle can run code. "
            "Save the weights alone with torch.save(model.state_dict(), PATH) or as safetensors."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as a state dict: {type(error).__name__}: {error}.") from error


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Fill ``network`` with a state dict whose names are its own.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs; the message has the first such name.
    """
    own = network.state_dict()
    # Batch norms count the batches of training; older files lack that count and inference has no use for it.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        which = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is not part of it"
        raise ValueError(f"{source} does not belong to this architecture: {which}.")
    for name, value in state.items():
        _check_shape(source, name, own[name], value)
    network.load_state_dict(dict(state), strict=False)


def fill_in_order(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Fill ``network`` with a state dict that lists the same tensors in the same order under other names.

    Every pair must agree in shape and in the last part of its name (weight, bias, running_mean, ...).

    Raises:
        ValueError: the numbers of tensors differ or a pair disagrees.
    """
    own = network.state_dict()
    if len(own) != len(state):
        raise ValueError(f"{source} holds {len(state)} tensors, but this architecture has {len(own)}.")
    renamed: dict[str, Tensor] = {}
    for (name, target), (foreign, value) in zip(own.items(), state.items(), strict=True):
        if name.rpartition(".")[2] != foreign.rpartition(".")[2]:
            raise ValueError(f"{source} does not follow this architecture: {foreign!r} stands where {name!r} should.")
        _check_shape(source, foreign, target, value)
        renamed[name] = value
    network.load_state_dict(renamed)


def _check_shape(source: str, name: str, target: Tensor, value: Tensor) -> None:
    if target.shape != value.shape:
        raise ValueError(
            f"{source} does not fit: {name!r} has shape {list(value.shape)} instead of {list(target.shape)}."
        )
