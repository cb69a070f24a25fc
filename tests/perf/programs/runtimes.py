"""[I/O] Every runtime there is on one model.

`python -m tests.perf.programs.runtimes MODEL ROUNDS FOLDER` prints a line of JSON.

One thread; processor time, which what else the machine does makes no longer. Runtimes and sizes take turns. What is
built stays in FOLDER, as a consumer finds it: each runtime in a data folder of its own.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from consumer.config import ConsumerConfig, resolve
from consumer.loading.network import store_of
from consumer.models.families import build
from consumer.models.pictures import samples
from consumer.models.vision.classifier import Classifier
from consumer.runtimes.base import CannotRun, Job, Pixels, Runtime
from consumer.runtimes.instructions import this_processor
from consumer.runtimes.network import Network
from consumer.tuning.candidates import candidates
from consumer.tuning.findings import Finding
from consumer.tuning.parity import THRESHOLDS, agreement
from shared.settings import Settings
from tests.perf.report import kinds
from tests.perf.report.maths import middle
from tests.perf.report.runtime_columns import PLAIN, SIZES, Column, Outcome

PARITY_ROWS = 32
CALIBRATION_ROWS = 32
BURST_S = 0.05
"""A size is run again and again for so long in each of its turns."""

Run = Callable[[Sequence[Pixels]], NDArray[np.float32]]


@dataclass(slots=True)
class _Contender:
    column: Column
    run: Run
    folder: Path | None = None


def main() -> None:
    """Build, compare, time, and print."""
    model, rounds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    network, plain = _network(model), _network(model)
    pictures = samples.pictures(PARITY_ROWS + CALIBRATION_ROWS, network.preprocessing.crop, network.preprocessing.crop)
    contenders = [_Contender(Column(runtime=PLAIN, precision="fp32"), plain_code(plain))]
    offered, missing = candidates("cpu", "auto", "auto")
    out = [Column(runtime=one.runtime, precision=one.precision, refused=why) for one, why in missing]
    exact = contenders[0].run(pictures[:PARITY_ROWS])
    for runtime, precision in offered:
        print(f"Building {runtime.name} in {precision}.", file=sys.stderr, flush=True)
        try:
            contenders.append(_built(runtime, precision, network, pictures, exact, folder))
        except CannotRun as error:
            out.append(Column(runtime=runtime.name, precision=precision, refused=str(error)))
    for _ in range(rounds):
        _round(contenders, pictures)
    for contender in contenders[1:]:
        _keep(contender, model, network, folder)
    found = Outcome(kind=kinds.kind(this_processor()), columns=[*(one.column for one in contenders), *out])
    print(msgspec.json.encode(found).decode(), flush=True)


def _network(model: str) -> Network:
    built = build(model, _config(model).model)
    assert isinstance(built, Classifier)
    return built.network()


def _config(model: str, **settings: str) -> ConsumerConfig:
    return resolve(Settings.from_env({"HEADRACE_TORCH_THREADS": "1", **settings}), model, 0)


def plain_code(network: Network) -> Run:
    """Return the network as somebody runs it who has a model and no server: fp32, no layout or fusion tricks."""
    module = network.module.eval()
    mean = torch.tensor(network.preprocessing.mean).view(1, 3, 1, 1)
    std = torch.tensor(network.preprocessing.std).view(1, 3, 1, 1)

    def run(rows: Sequence[Pixels]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pictures = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float().div(255)
            logits: NDArray[np.float32] = module((pictures - mean) / std).numpy()
            return logits

    return run


def _built(
    runtime: Runtime,
    precision: str,
    network: Network,
    pictures: Sequence[Pixels],
    exact: NDArray[np.float32],
    folder: Path,
) -> _Contender:
    place = folder / f"{runtime.name}-{precision}" / "files"
    place.mkdir(parents=True)
    begun_s = process_time()
    job = Job("cpu", precision, SIZES[-1], 1, network.preprocessing.crop, place, network)
    runtime.build(job, pictures[PARITY_ROWS:])
    runner = runtime.open(job)
    column = Column(runtime=runtime.name, precision=precision, built_s=process_time() - begun_s)
    parity = agreement(exact, runner.run(pictures[:PARITY_ROWS]), precision, THRESHOLDS[precision])
    if not parity.passed:
        column.refused = f"its outputs differ: {parity.reason}"
    return _Contender(column, runner.run, None if runtime.needs_network else place)


def _round(contenders: Sequence[_Contender], pictures: Sequence[Pixels]) -> None:
    for contender in contenders:
        for size in SIZES:
            rows = pictures[:size]
            contender.run(rows)  # what ran before has used the caches
            begun_s, done = process_time(), 0
            while (took_s := process_time() - begun_s) < BURST_S or not done:
                contender.run(rows)
                done += size
            contender.column.rates.setdefault(size, []).append(done / took_s)


def _keep(contender: _Contender, model: str, network: Network, folder: Path) -> None:
    """Put what was built where a consumer that is asked for this runtime looks for it."""
    column = contender.column
    if contender.folder is None or column.refused:
        return
    data = folder / f"{column.runtime}-{column.precision}"
    asked = {"HEADRACE_RUNTIME": column.runtime, "HEADRACE_PRECISION": column.precision}
    measured = tuple((size, size / (middle(rates) or 1.0)) for size, rates in sorted(column.rates.items()))
    finding = Finding(
        runtime=column.runtime, precision=column.precision, reason="measured by `make bench`.", rows=PARITY_ROWS,
        top1_agreement=1.0, largest_difference=0.0, cosine=1.0, measured=measured, preferred=8,
    )  # fmt: skip
    store = store_of(_config(model, HEADRACE_DATA_DIR=str(data), **asked), "cpu")
    with store.lock(), store.room() as room:
        shutil.copytree(contender.folder, room / "files")
        store.put(finding, network.spec, room / "files")
    column.data = str(data)


if __name__ == "__main__":
    main()
