"""A stack where the packages of texts are not installed: one sentence, and the other models serve."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from tests.children import ROOT
from tests.e2e.stack import call
from tests.unit.headrace.stacks import Running

HIDE = """
import importlib.abc, sys


class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tokenizers", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hidden())
"""


def test_one_sentence_says_what_to_run_and_the_other_models_serve(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    settings = {
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "HEADRACE_MODELS": "echo,minilm,smollm2",
        "HEADRACE_DATA_DIR": str(tmp_path / "data"),
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
        "HEADRACE_CONSUMERS": "1",
    }
    with Running([sys.executable, "-m", "headrace", "up"], settings) as stack:
        stack.until(r"Ctrl-C stops everything")
        for model in ("minilm", "smollm2"):
            assert re.search(
                rf"FAILED +{model}: .*tokenizers and transformers not installed: run pip install -c constraints\.txt "
                r"--group text \(without a checkout: pip install 'headrace\[text\]'\), or build the image with "
                r"EXTRA_GROUP=text\.",
                stack.output,
            ), stack.output
        [url] = re.findall(r"API +(http://\S+)", stack.output)
        answer = call(f"{url}/v1/models/echo/predict", b"hello", "application/octet-stream")
        assert bytes(answer.body["outputs"][0]["data"]) == b"hello"
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
