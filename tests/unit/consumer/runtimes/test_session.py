"""What an open file takes of the machine: cores, threads that wait, and memory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time, thread_time

import numpy as np
import pytest
import torch

from consumer.models.pictures import samples
from consumer.runtimes.base import Job, Runner, Runtime
from consumer.runtimes.exported.onnx_runtime import OnnxRuntime
from consumer.runtimes.exported.openvino_runtime import OpenVino
from consumer.runtimes.libraries import said
from consumer.runtimes.session import ROWS_PER_THREAD, SessionRunner
from tests.unit.consumer.runtimes.networks import job_of, shipped

pytestmark = pytest.mark.timeout(180)  # imports torch and timm and builds whole networks, beside all other tests

ROOT = Path(__file__).parents[4]
SIDE = 224
BUSY_S = 0.3

EXPORTED: list[Runtime] = [OnnxRuntime()]
if importlib.util.find_spec("openvino"):
    EXPORTED.append(OpenVino())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a network that is large enough for timing."""
    folder = tmp_path_factory.mktemp("entry")
    OnnxRuntime().build(job_of(shipped("imagenet"), folder), [])
    return folder


@pytest.fixture(params=EXPORTED, ids=[one.name for one in EXPORTED])
def one(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield request.param
    torch.set_num_threads(threads)


def opened(one: Runtime, folder: Path, threads: int) -> tuple[Runner, list[np.ndarray]]:
    return one.open(Job("cpu", "fp32", 8, threads, SIDE, folder)), samples.pictures(8, SIDE, SIDE)


def test_one_thread_computes_on_one_core(one: Runtime, folder: Path) -> None:
    runner, rows = opened(one, folder, threads=1)
    runner.run(rows)
    begun_s, used_s = perf_counter(), process_time()
    while perf_counter() - begun_s < BUSY_S:
        runner.run(rows)
    assert process_time() - used_s < 1.2 * (perf_counter() - begun_s)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_that_have_no_work_take_no_time(one: Runtime, threads: int, folder: Path) -> None:
    """While this thread is busy with something else, all others together use next to nothing."""
    runner, rows = opened(one, folder, threads)
    for _ in range(3):
        runner.run(rows)
    used_s, own_s = process_time(), thread_time()
    while thread_time() - own_s < BUSY_S:
        pass
    others_s = (process_time() - used_s) - (thread_time() - own_s)
    assert others_s < 0.1 * BUSY_S


_ANSWERS = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from consumer.tuning.candidates import runtime

name, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
job = SimpleNamespace(folder=folder, precision="fp32", threads=1, side=224, max_batch=rows)
runner = runtime(name).open(job)
for count in (1, 2, 4, 8, 16, 32):
    assert runner.run([np.zeros((224, 224, 3), np.uint8)] * min(count, rows)).shape[1] == 1000
assert "torch" not in sys.modules, "torch was imported"
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_bytes(name: str, folder: Path, rows: int) -> int:
    """What a process that opens the file and runs batches up to so many rows takes at its peak."""
    argv = [sys.executable, "-c", _ANSWERS, name, str(folder), str(rows)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout) << 10


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what a process took")
def test_large_batches_take_no_more_memory_than_small_ones(one: Runtime, folder: Path) -> None:
    """A consumer of EfficientNet-Lite0 is to stay below 400 MB, of which 80 are its own."""
    small, large = (peak_bytes(one.name, folder, rows) for rows in (ROWS_PER_THREAD, 32))
    assert large < 320 << 20
    assert large - small < 40 << 20  # the pictures of such a batch, and what the allocator keeps


def counted(most: int) -> tuple[SessionRunner, list[int]]:
    """A runner whose library can take so many rows at once, and the sizes that it was given."""
    sizes: list[int] = []

    def infer(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        if len(batch) > most:
            raise RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 9"
            )
        return batch[:, 0, :2, 0].astype(np.float32)

    return SessionRunner(infer, 4, 32, 8), sizes


def test_where_memory_runs_out_batches_are_halved() -> None:
    """With what ONNX Runtime says then; see the next test for where it comes from."""
    rows = [np.full((4, 4, 3), value, np.uint8) for value in range(20)]
    runner, sizes = counted(3)
    np.testing.assert_array_equal(runner.run(rows)[:, 0], np.arange(20))
    assert sizes[:3] == [8, 4, 2]
    assert runner.working_rows == 2
    runner, sizes = counted(8)
    runner.run(rows)
    assert sizes == [8, 8, 4]
    assert runner.working_rows is None
    with pytest.raises(MemoryError, match="Failed to allocate memory"):
        counted(0)[0].run(rows)


_NO_ROOM = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from consumer.runtimes.exported.onnx_runtime import OnnxRuntime

job = SimpleNamespace(folder=Path(sys.argv[1]), precision="fp32", threads=4, side=224, max_batch=32)
runner = OnnxRuntime().open(job)
size = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size + (160 << 20), resource.RLIM_INFINITY))
assert runner.run([np.zeros((224, 224, 3), np.uint8)] * 32).shape == (32, 1000)
print(runner.working_rows)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to a limit of memory")
def test_onnx_runtime_that_gets_no_memory_runs_batches_in_parts(folder: Path) -> None:
    argv = [sys.executable, "-c", _NO_ROOM, str(folder)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) in (16, 8, 4)


def test_an_error_is_said_in_its_first_line_that_tells_something() -> None:
    openvino = (
        "Exception from src/inference/src/cpp/core.cpp:132:\nException from src/inference/src/dev/plugin.cpp:59:\n"
        "Check 'm_model->ParseFromIstream(&model_file)' failed at src/frontends/onnx/x.cpp:563:\n"
        "FrontEnd API failed with GeneralFailure:\nModel can't be parsed\n\n"
    )
    assert said(RuntimeError(openvino)) == "Model can't be parsed"
    onnxruntime = "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from a.onnx failed:Protobuf parsing failed."
    assert said(RuntimeError(onnxruntime)) == "Load model from a.onnx failed:Protobuf parsing failed"
    assert said(ValueError()) == "ValueError"
    assert said(ValueError("\n \n")) == "ValueError"
    assert len(said(ValueError("x" * 9000))) == 300
