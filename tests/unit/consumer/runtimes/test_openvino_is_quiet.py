"""OpenVINO tells Google Analytics of each import, by a package that it brings. A consumer has it tell nobody."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT, clean_environment

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")

QUIET = """
import os
import sys
from pathlib import Path
import numpy as np
import onnx
from onnx import TensorProto, helper

def refuse(event, arguments):
    if event in FORBIDDEN:
        os.write(2, f"{event} {arguments}".encode())  # on whatever thread: some are swallowed with what they raise
        os._exit(3)

nodes = [
    helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
    helper.make_node("ReduceMean", ["numbers"], ["logits"], axes=[1, 2], keepdims=0),
]
pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 4, 4, 3])
logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
graph = helper.make_graph(nodes, "mean", [pixels], [logits])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
folder = Path(sys.argv[1])
onnx.save(model, folder / "model.onnx")

sys.addaudithook(refuse)
from consumer.runtimes.base import Job
from consumer.runtimes.exported.openvino_runtime import OpenVino
runner = OpenVino().open(Job("cpu", "fp32", 2, 1, 4, folder))
print(runner.run([np.full((4, 4, 3), 7, np.uint8)] * 2).tolist())
"""

PLACES = ("generation/openvino_genai/library.py", "runtimes/exported/openvino_runtime.py")

FORBIDDEN = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "subprocess.Popen",
    "os.system",
    "os.posix_spawn",
    "os.exec",
    "os.fork",
    "urllib.Request",
)


def quiet(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose connections and processes are refused, with an empty home."""
    home = folder / "home"
    home.mkdir()
    return subprocess.run(
        [sys.executable, "-c", f"FORBIDDEN = {FORBIDDEN}\n{code}", str(folder)],
        cwd=ROOT,
        env={**clean_environment(), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_opening_and_running_a_model_reaches_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    done = quiet(tmp_path, QUIET)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[7.0, 7.0, 7.0], [7.0, 7.0, 7.0]]"
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(
    "told",
    [
        "import socket; socket.create_connection(('127.0.0.1', 1))",
        "os.system('true')",
        "import threading; threading.Thread(target=os.fork).start()",
    ],
)
def test_it_would_be_noticed(tmp_path: Path, told: str) -> None:
    done = quiet(tmp_path, f"{QUIET}\n{told}")
    assert done.returncode == 3
    assert done.stderr.startswith(("socket.", "os.system", "os.fork"))


def test_where_it_is_imported_it_is_made_quiet_before() -> None:
    sources = [path for name in ("consumer", "tests") for path in (ROOT / name).rglob("*.py")]
    importing = [path for path in sources if re.search(r"^\s*(import|from) openvino\b", path.read_text(), re.MULTILINE)]
    assert sorted(importing) == [ROOT / "consumer" / place for place in PLACES]
    for path in importing:
        before = path.read_text().partition("import openvino\n")[0]
        assert 'sys.modules.setdefault("openvino_telemetry", None)' in before
