"""[I/O] The model alone, without a queue, and what asks such processes.

`python -m tests.perf.programs.ceiling MODEL INDEX` is such a process.

A process pins itself to one core, loads the model through the code that a consumer uses, with the same settings, and
so with the same runtime, precision and warm-up. Then it does what each line of its standard input says: run ready rows
in a loop, decode photographs and run them, or time each batch size.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Self

from tests.children import clean_environment
from tests.perf.stack import BenchError, Process

_LIMIT_S = 120.0


class Ceiling:
    """A context manager: so many processes, one for each core, that run a model as fast as it goes.

    Args:
        settings: the consumer's, its data folder among them: the runtime that was found for it there is then used
            here, too.

    Attributes:
        runs: runtime and precision, as the processes say.
        preferred: rows of the batch that gets most done, as the first of them measured.
    """

    def __init__(self, model: str, processes: int, settings: Mapping[str, str]) -> None:
        self._model, self._count, self._settings = model, processes, settings

    def __enter__(self) -> Self:
        self._held = ExitStack()
        environment = clean_environment(**{**self._settings, "HEADRACE_TORCH_THREADS": "1"})
        try:
            argv = ["-m", "tests.perf.programs.ceiling", self._model]
            self._processes = [
                self._held.enter_context(Process([*argv, str(index)], environment)) for index in range(self._count)
            ]
            for process in self._processes:
                process.until("^Warm")
            warm = self._processes[0].until(r"^Warm: (.*), (\d+) rows")
            self.runs, self.preferred = warm[1], int(warm[2])
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def rate(self, seconds: float, rows: int, photos: Sequence[Path] = ()) -> float:
        """Return rows per second of all processes together; with photographs, decoding them is part of it."""
        orders = {"seconds": seconds, "rows": rows, "photos": [str(path) for path in photos]}
        return sum(float(found) for found in self._ask(orders, self._processes))

    def batch_ms(self, sizes: Sequence[int], repeats: int) -> dict[int, float]:
        """Return the median duration of a batch of each size, one process alone; the sizes take turns."""
        [found] = self._ask({"sizes": list(sizes), "repeats": repeats}, self._processes[:1])
        return {int(size): float(ms) for size, ms in found.items()}

    def _ask(self, order: Mapping[str, Any], processes: Sequence[Process]) -> list[Any]:
        before = [len(process.lines) for process in processes]
        for process in processes:
            process.tell(json.dumps(order))
        answers = [
            process.after(count, r"^found (.*)", _LIMIT_S)[1] for process, count in zip(processes, before, strict=True)
        ]
        try:
            return [json.loads(answer) for answer in answers]
        except json.JSONDecodeError as error:
            raise BenchError(f"The model's process answered {answers!r:.200}: {error}.") from None


def _serve(model_name: str, index: int) -> None:
    """Load, warm up, and carry out orders until standard input closes."""
    from consumer.config import resolve
    from consumer.loading.load import load_model
    from consumer.models.families import build
    from shared.settings import Settings

    config = resolve(Settings.from_env(os.environ), model_name, 0)
    loaded = load_model(lambda: build(config.model_name, config.model), config)
    model, runtime = loaded.model, loaded.network.runtime if loaded.network else "none"
    print(f"Warm: {runtime} in {loaded.parity.precision}, {loaded.calibration.preferred} rows", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "sizes" in order:
            found: Any = _time_sizes(model, order["sizes"], order["repeats"])
        elif order["photos"]:
            found = _photos(
                model, [Path(name).read_bytes() for name in order["photos"]], order["rows"], order["seconds"]
            )
        else:
            found = _loop(model, order["rows"], order["seconds"])
        print(f"found {json.dumps(found)}", flush=True)


def _loop(model: Any, rows: int, seconds: float) -> float:
    ready, done, begun_s = model.sample_rows(rows), 0, time.perf_counter()
    while (took_s := time.perf_counter() - begun_s) < seconds or not done:
        model.run(ready)
        done += rows
    return done / took_s


def _photos(model: Any, bodies: Sequence[bytes], rows: int, seconds: float) -> float:
    from shared.wire.messages import Request

    done, begun_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - begun_s) < seconds or not done:
        batch: list[Any] = []
        for number in range(rows):
            body = bodies[(done + number) % len(bodies)]
            batch += model.preprocess(Request("one", 60_000, content_type="image/jpeg", body=body))
        model.run(batch)
        done += rows
    return done / took_s


def _time_sizes(model: Any, sizes: Sequence[int], repeats: int) -> dict[str, float]:
    ready = {size: model.sample_rows(size) for size in sizes}
    taken_ms: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(repeats):
        for size in sizes:
            begun_s = time.perf_counter()
            model.run(ready[size])
            taken_ms[size].append((time.perf_counter() - begun_s) * 1000)
    return {str(size): median(values) for size, values in taken_ms.items()}


def main() -> None:
    """Take a core, before anything starts a thread, and serve."""
    index = int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    _serve(sys.argv[1], index)


if __name__ == "__main__":
    main()
