"""Archives as torch-model-archiver makes them, with handlers in the style of the public examples."""

from __future__ import annotations

import json
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LABELS = {"0": ["n01", "dark"], "1": "bright", "2": "loud"}

NETWORK = """
    import torch


    class Brightness(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.zeros(3))

        def forward(self, pictures):
            return pictures.mean((2, 3)) * self.scale
"""

DIGITS = """
    import torch
    from torchvision import transforms
    from ts.torch_handler.image_classifier import ImageClassifier


    class Digits(ImageClassifier):
        image_processing = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

        def postprocess(self, data):
            return data.argmax(1).tolist()
"""

DIGIT_NETWORK = """
    import torch
    from torch import nn


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.fc = nn.Linear(4 * 26 * 26, 10)

        def forward(self, x):
            return self.fc(torch.flatten(torch.relu(self.conv(x)), 1))
"""

MANNERS = '''
    """A class in the form of the documentation of custom services, and every way to misbehave."""
    import json
    import logging
    import os
    import sys
    from ts.context import Context
    from ts.metrics.dimension import Dimension
    from ts.utils.util import PredictionException

    logger = logging.getLogger(__name__)


    class ModelHandler(object):
        def __init__(self):
            self.initialized = False

        def initialize(self, context):
            properties = context.system_properties
            assert os.path.isdir(properties.get("model_dir")) and properties["server_name"]
            self.batch_size = properties["batch_size"]
            self.extra = open(os.path.join(properties["model_dir"], "extra.txt")).read()
            self.greeting = context.model_yaml_config.get("handler", {}).get("greeting")
            self.initialized = True

        def handle(self, data, context):
            context.metrics.add_counter("requests", len(data))
            context.metrics.add_metric("m", "ms", "histogram").add_or_update(1, [])
            texts = [row.get("data") or row.get("body") for row in data]
            plain = [bytes(t).decode() if isinstance(t, (bytes, bytearray)) else t for t in texts]
            if "count" in plain:
                return ["one too few"] * (len(data) - 1)
            if "raise" in plain:
                raise KeyError("secret of the handler")
            if "exit" in plain:
                sys.exit(3)
            if "refuse" in plain:
                raise PredictionException("Not this one.", 400)
            if "strange" in plain:
                return "not a list"
            return [self.answer(index, row, text, context) for index, (row, text) in enumerate(zip(data, plain))]

        def answer(self, index, row, text, context):
            if text == "print":
                print("a handler prints")
                return "printed"
            if text == "status":
                context.set_response_status(404, "No such thing.", index)
                return "gone"
            if text == "png":
                context.set_response_content_type(index, "image/png")
                return b"\\x89PNG\\r\\n\\x1a\\n" + bytes(range(256))
            if text == "splitting":
                context.set_response_content_type(index, "text/plain\\r\\nX-Evil: 1")
                return "never"
            return {
                "fields": {k: v if isinstance(v, (str, dict, list)) else bytes(v).decode() for k, v in row.items()},
                "extra": self.extra,
                "greeting": self.greeting,
                "content_type": context.get_request_header(index, "Content-Type"),
                "header": context.get_request_header(index, "X-Tenant"),
                "secret": context.get_request_header(index, "Authorization"),
                "batch_size": self.batch_size,
            }
'''

FUNCTION = """
    calls = []


    def handle(data, context):
        if data is None:
            calls.append("initialized")
            return None
        return [f"{len(calls)} {row.get('body') or row.get('data')}" for row in data]
"""


def archive(
    place: Path, files: Mapping[str, str | bytes], *, handler: str, name: str = "model", **manifest: Any
) -> Path:
    """Write ``place``: a zip with ``files``, and a manifest that names ``handler`` and the rest."""
    model = {"modelName": name, "handler": handler, "modelVersion": "1.0", **manifest}
    document = {
        "createdOn": "30/11/2026 12:00:00",
        "runtime": "python",
        "model": model,
        "archiverVersion": "0.12.0",
    }
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as made:
        for file, content in files.items():
            made.writestr(file, textwrap.dedent(content) if isinstance(content, str) else content)
        made.writestr("MAR-INF/MANIFEST.json", json.dumps(document))
    return place


def manners(place: Path) -> Path:
    """Write an archive of the class with manners."""
    files = {
        "manners.py": MANNERS,
        "extra.txt": "from the archive",
        "model-config.yaml": "batchSize: 4\nmaxBatchDelay: 20\nhandler:\n  greeting: hello\n",
    }
    return archive(place, files, handler="manners.py", name="manners", configFile="model-config.yaml")
