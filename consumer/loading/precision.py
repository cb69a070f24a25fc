"""Does a precision give the answers that fp32 gives, and is it faster? Asked at start-up, on sample inputs.

The comparison itself is in ``parity.py``. It needs numpy, which a model that does without it should not have to load,
so it is imported only when there is something to compare.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from consumer.events import Parity
from consumer.models.base import Model
from consumer.models.model_errors import described
from consumer.tuning.measuring import shortest_s

from .start_cache import StartCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

AUTO, FP32 = "auto", "fp32"
SIZES = (1, 5, 8, 32)
"""Batches that are compared. 5 is no power of two: where batches are padded, padded rows must not change the others."""
TIMED = 8
"""Rows of the batch whose time is compared."""
ROUNDS = 9
BUDGET_S = 0.3
WORTH = 0.95
"""``auto`` takes a lower precision only if a batch takes less than this share of fp32's time; less is noise."""
HOPELESS = 2.0
"""A trial ends at its first batch if that takes more than so many times the best one's."""
BRIEF_S = 0.1
"""A first batch as short as this is run once more before it is judged: part of it is done once only."""


@dataclass(frozen=True, slots=True)
class SampleRun:
    """What a model does with its sample rows.

    Attributes:
        outputs: of all batches one below the other; None when they are no numbers.
        batch_s: the shortest time of a batch of ``TIMED`` rows.
        first_s: the time of the first and smallest batch.
    """

    outputs: NDArray[Any] | None
    batch_s: float
    first_s: float = 0.0


class Hopeless(Exception):
    """A trial ended early, because its first batch alone took too long."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes loaded models, and closes each one that began to load.

    Attributes:
        build: makes a model that is not loaded yet.
        close: closes one that is no longer used.
    """

    build: Callable[[], Model]
    device: str
    close: Callable[[Model], None]

    def load(self, precision: str) -> Model:
        """Make a model and load it.

        Raises:
            ValueError: it cannot be built, or not loaded so.
        """
        model = self.build()
        with self.closing_on_error(model):
            model.load(self.device, precision)
        return model

    @contextmanager
    def closing_on_error(self, model: Model) -> Iterator[None]:
        """Close ``model`` if what is done with it raises."""
        try:
            yield
        except BaseException:
            self.close(model)
            raise


class PrecisionRefused(ValueError):
    """The chosen precision is too far from fp32; ``parity`` holds the figures."""

    def __init__(self, parity: Parity) -> None:
        super().__init__(
            f"precision {parity.precision} is refused: {parity.reason} Use fp32, or another precision that passes."
        )
        self.parity = parity


def prepare(
    build: Callable[[], Model],
    device: str,
    wanted: str,
    start_cache: StartCache,
    max_batch: int = SIZES[-1],
    close: Callable[[Model], None] = Model.close,
) -> tuple[Model, Parity]:
    """Build and load a model in the precision ``wanted``, or for ``auto`` in the fastest one that agrees with fp32.

    Call it on the thread that runs torch. For a comparison it first loads the model in fp32, runs it over its samples
    and closes it, so that there are never two copies of the weights in memory.

    Args:
        build: makes a model that is not loaded yet; called once for each precision that is tried.
        device: ``cpu`` or ``cuda``.
        start_cache: what earlier starts found to be fastest; that precision is then the only one that is compared.
        max_batch: rows of the largest batch; larger ones are not compared.
        close: closes a model that is no longer used, and never raises; also called if its ``load`` raised.

    Returns:
        The loaded model, and how close it comes to fp32: ``precision`` is the one in force, ``reason`` says why.

    Raises:
        PrecisionRefused: the outputs of the requested precision are too far from fp32's.
        ValueError: the model cannot be built, or not loaded so.
    """
    sizes = sorted({min(size, max_batch) for size in SIZES})
    maker = Maker(build, device, close)
    if wanted == AUTO:
        return _fastest(maker, sizes, start_cache)
    if wanted == FP32:
        return _exact(maker, "nothing to compare, it is what others are compared with.")
    lacking = _lacks(device, wanted)
    if lacking:
        log.warning("Precision %s was asked for by name, although %s: it is emulated, and slow.", wanted, lacking)
    exact = _measured_and_freed(maker, sizes)
    model = maker.load(wanted)
    with maker.closing_on_error(model):
        measured = _measured(model, sizes)
        parity = _compared(exact, measured, wanted)
        if not parity.passed:
            raise PrecisionRefused(parity)
    if lacking:
        parity = replace(parity, reason=f"{parity.reason} It is emulated, since {lacking}.")
    if exact.outputs is not None and measured.batch_s > exact.batch_s:
        log.warning("Precision %s is slower than fp32 here: %s", wanted, _times(measured, exact))
        return model, replace(parity, reason=f"{parity.reason} It is slower than fp32: {_times(measured, exact)}")
    return model, parity


def _fastest(maker: Maker, sizes: Sequence[int], start_cache: StartCache) -> tuple[Model, Parity]:
    offered = [name for name in maker.build().precisions(maker.device) if name != FP32]
    if not offered:
        return _exact(maker, "it is the only precision of this model.")
    untried = {name: f"{name} is not tried, since {why}." for name in offered if (why := _lacks(maker.device, name))}
    others = [name for name in offered if name not in untried]
    if not others:
        return _exact(maker, f"it is the fastest precision that agrees: {' '.join(untried.values())}")
    place = f"precision {maker.device} of {'+'.join(others)}"
    known = start_cache.get(place)
    if isinstance(known, dict) and known.get("precision") == FP32:
        return _exact(maker, str(known.get("reason"))[:1000])
    known = known.get("precision") if isinstance(known, dict) else None
    exact = _measured_and_freed(maker, sizes)
    tried = _Trials(maker, sizes, exact)
    tried.refusals += untried.values()
    for name in [known] if known in others else others:
        tried.attempt(name, must_be_faster=name != known)
    if tried.best is None:
        reason = f"it is the fastest precision that agrees: {' '.join(tried.refusals)}"
        start_cache.put(place, {"precision": FP32, "reason": reason})
        return _exact(maker, reason)
    start_cache.put(place, {"precision": tried.best.precision})
    return tried.model or maker.load(tried.best.precision), tried.best


class _Trials:
    """Precisions tried one after the other, of which the fastest that agrees is kept."""

    def __init__(self, maker: Maker, sizes: Sequence[int], exact: SampleRun) -> None:
        self._maker, self._sizes, self._exact = maker, sizes, exact
        self._least_s, self._least_first_s = float("inf"), exact.first_s
        self.best: Parity | None = None
        self.model: Model | None = None
        """The loaded model if the best one was tried last; never two at once."""
        self.refusals: list[str] = []

    def attempt(self, name: str, must_be_faster: bool) -> None:
        """Load the model in precision ``name`` and see whether it is the best so far."""
        if self.model is not None:
            self._maker.close(self.model)
        self.model = None
        free_memory(self._maker.device)
        try:
            model = self._maker.load(name)
            with self._maker.closing_on_error(model):
                measured = _measured(model, self._sizes, self._least_first_s if must_be_faster else None)
        except Hopeless as error:
            self.refusals.append(f"{name} is not faster: {error}")
            return
        except BaseException as error:
            said = str(error) if isinstance(error, Exception) else described(error)
            self.refusals.append(f"{name} cannot run: {said.rstrip('.') or type(error).__name__}.")
            return
        parity = _compared(self._exact, measured, name)
        times = _times(measured, self._exact)
        if measured.outputs is None:
            self.refusals.append(f"outputs of {name} are not numbers that could be compared.")
        elif not parity.passed:
            self.refusals.append(f"{name}: {parity.reason}")
        elif must_be_faster and measured.batch_s > WORTH * self._exact.batch_s:
            self.refusals.append(f"{name} is not faster: {times}")
        elif measured.batch_s < self._least_s:
            self._least_s, self._least_first_s = measured.batch_s, min(self._least_first_s, measured.first_s)
            self.best, self.model = replace(parity, reason=f"{parity.reason} {times.capitalize()}"), model
        if self.model is not model:
            self._maker.close(model)


def _exact(maker: Maker, reason: str) -> tuple[Model, Parity]:
    return maker.load(FP32), Parity(FP32, 0, 1.0, 0.0, 1.0, True, reason)


def _lacks(device: str, name: str) -> str:
    """Say what the device has not that ``name`` needs; a model that does without torch knows best itself."""
    if "torch" not in sys.modules:
        return ""
    from consumer.runtimes.instructions import lacks

    return lacks(device, name)


def _compared(exact: SampleRun, measured: SampleRun, name: str) -> Parity:
    if exact.outputs is None or measured.outputs is None:
        reason = "the outputs are not arrays of numbers, so they were not compared with fp32's."
        return Parity(name, 0, 1.0, 0.0, 1.0, True, reason)
    from consumer.tuning.parity import compare

    return compare(exact.outputs, measured.outputs, name)


def _times(measured: SampleRun, exact: SampleRun) -> str:
    return f"a small batch takes {measured.batch_s * 1000:.3g} ms, in fp32 {exact.batch_s * 1000:.3g} ms."


def _measured_and_freed(maker: Maker, sizes: Sequence[int]) -> SampleRun:
    """Run fp32 and free it before returning."""
    model = maker.load(FP32)
    with maker.closing_on_error(model):
        measured = _measured(model, sizes)
    maker.close(model)
    del model
    free_memory(maker.device)
    return measured


def free_memory(device: str) -> None:
    """Free the memory of a model that is no longer used, to make room for the next one."""
    gc.collect()
    torch = sys.modules.get("torch")  # not imported for models that do without it
    if device == "cuda" and torch is not None:
        torch.cuda.empty_cache()


def _measured(model: Model, sizes: Sequence[int], best_s: float | None = None) -> SampleRun:
    """Run batches of all ``sizes``, each of the first so many sample rows, and time a batch of ``TIMED`` rows.

    Args:
        best_s: the time of the best first batch so far; None to run this trial to its end.

    Raises:
        Hopeless: the first batch took more than ``HOPELESS`` times that.
    """
    samples = model.sample_rows(sizes[-1])
    first_s = _run_s(model, samples[: sizes[0]])
    if best_s is not None and first_s > HOPELESS * best_s:
        if first_s < BRIEF_S:
            first_s = min(first_s, _run_s(model, samples[: sizes[0]]))
        if first_s > HOPELESS * best_s:
            raise Hopeless(f"its first batch took {first_s * 1000:.3g} ms, of the best {best_s * 1000:.3g} ms.")
    parts = [_as_array(model.run(samples[:size])) for size in sizes]
    if any(part is None for part in parts):
        return SampleRun(None, 0.0, first_s)
    import numpy as np

    try:
        outputs = np.concatenate([part for part in parts if part is not None])
    except ValueError:
        return SampleRun(None, 0.0, first_s)
    return SampleRun(outputs, _run_s(model, samples[:TIMED], 2, ROUNDS), first_s)


def _run_s(model: Model, rows: Sequence[Any], least: int = 1, most: int = 1) -> float:
    return shortest_s(lambda: model.run(rows), least, most, BUDGET_S, perf_counter)


def _as_array(outputs: Sequence[Any]) -> NDArray[Any] | None:
    """Copy outputs into one array, or return None when they are not equal arrays of numbers.

    A copy, since a model may hand out the same buffer again.
    """
    import numpy as np

    try:
        array = np.array(outputs)
    except Exception:  # reading an output of the user's own model may raise anything
        return None
    return array if array.ndim > 0 and array.dtype.kind in "fiub" else None
