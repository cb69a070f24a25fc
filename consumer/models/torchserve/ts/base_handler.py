"""The handler that others derive from: loads TorchScript, or a network's code and its state dict."""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .context import Context
from .util import list_classes_from_module, load_label_mapping

LABELS = "index_to_name.json"


class BaseHandler:
    """See the module.

    Attributes:
        model: the network, once initialized.
        device: where it is.
        mapping: labels, if the archive has ``index_to_name.json``.
        context: of the batch under way.
        manifest: of the archive.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: Any = None
        self.device: Any = None
        self.initialized = False
        self.context: Any = None
        self.manifest: Any = None
        self.model_pt_path: str | None = None
        self.map_location: str | None = None
        self.explain = False
        self.target = 0

    def initialize(self, context: Context) -> None:
        """Load the network and the labels.

        Raises:
            ValueError: there are no weights, or they cannot be opened; one sentence.
        """
        properties = context.system_properties
        has_gpu = torch.cuda.is_available() and properties.get("gpu_id") is not None
        self.map_location = "cuda" if has_gpu else "cpu"
        self.device = torch.device(f"cuda:{properties['gpu_id']}" if has_gpu else "cpu")
        self.manifest, self.context = context.manifest, context
        model, folder = self.manifest["model"], properties["model_dir"]
        serialized = model.get("serializedFile")
        if serialized:
            self.model_pt_path = os.path.join(folder, serialized)
        if model.get("modelFile"):
            self.model = self._load_pickled_model(folder, model["modelFile"], self.model_pt_path)
        elif self.model_pt_path is not None:
            self.model = self._load_torchscript_model(self.model_pt_path)
        else:
            raise ValueError("the manifest names no serializedFile")
        self.model.to(self.device)
        self.model.eval()
        self.mapping = load_label_mapping(os.path.join(folder, LABELS))
        self.initialized = True

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        name = Path(model_pt_path).name
        if name.endswith(".onnx"):
            raise ValueError(f"{name} is ONNX, which this handler does not run: serve the file by itself, family onnx")
        try:
            with warnings.catch_warnings():  # it is deprecated, and what archives hold
                warnings.simplefilter("ignore", FutureWarning)
                return torch.jit.load(model_pt_path, map_location=self.device)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if self.context is not None and self.context.trusts_pickles:
                return torch.load(model_pt_path, map_location=self.device, weights_only=False)
            raise ValueError(
                f"{name} is no TorchScript, and the manifest names no modelFile with the code of its network; a pickle "
                "of the whole network is opened with `options = { trust = true }`, since it can run any code"
            ) from error

    def _load_pickled_model(self, model_dir: str, model_file: str, model_pt_path: str | None) -> Any:
        path = Path(model_dir, model_file)
        if not path.is_file():
            raise ValueError(f"there is no {model_file}, which the manifest names as its modelFile")
        module = importlib.import_module(path.stem)
        found = getattr(module, "__file__", None)
        if found is None or Path(found).resolve() != path.resolve():
            raise ValueError(
                f"importing {path.stem!r} gives {found or 'a module of Python itself'}: rename {model_file}"
            )
        classes = list_classes_from_module(module)
        if len(classes) != 1:
            names = ", ".join(one.__name__ for one in classes) or "none"
            raise ValueError(f"{model_file} must define exactly one class, the network; it defines {names}")
        model = classes[0]()
        if model_pt_path is not None:
            model.load_state_dict(self._state(Path(model_pt_path)))
        return model

    def _state(self, path: Path) -> Any:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path, device=str(self.device))
        trusts = self.context is not None and self.context.trusts_pickles
        try:
            found = torch.load(path, map_location=self.device, weights_only=not trusts)
        except Exception as error:
            if trusts:
                raise
            raise ValueError(
                f"{path.name} is damaged, or holds more than tensors; such a pickle is opened with "
                "`options = { trust = true }`, since it can run any code"
            ) from error
        return found.state_dict() if isinstance(found, torch.nn.Module) else found

    def preprocess(self, data: Any) -> Any:
        """Return the rows as one tensor."""
        values = [row.get("data", row.get("body")) if isinstance(row, Mapping) else row for row in data]
        return torch.as_tensor(values, device=self.device)

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        with torch.inference_mode():
            return self.model(data.to(self.device) if hasattr(data, "to") else data, *args, **kwargs)

    def postprocess(self, data: Any) -> Any:
        """Return a list with an answer for each row."""
        return data.tolist()

    def handle(self, data: Any, context: Context) -> Any:
        """Answer a batch."""
        self.context = context
        return self.postprocess(self.inference(self.preprocess(data)))

    def explain_handle(self, data_preprocess: Any, raw_data: Any) -> Any:
        """Refuse: nothing here explains.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("Headrace has no explanations")
