"""Loading a network: as it was tuned on this machine, or else plainly in torch, so that it serves at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, thread_time

from shared.cards import Tuning

from .calibration import Calibration, calibrate, calibrate_briefly, warm
from .config import ConsumerConfig
from .events import Parity
from .models.base import Model
from .models.classifier import Classifier
from .notes import Notes
from .precision import AUTO, FP32, prepare
from .runtimes.base import Job
from .threads import threads_of
from .tuning.fingerprint import fingerprint
from .tuning.store import Entry, Store
from .tuning.tuner import tune_now

log = logging.getLogger(__name__)

TORCH = "torch"


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A classifier that is ready.

    Attributes:
        runtime: what runs it.
        tuning: how it came to that.
        store: where findings for it are kept.
        stamp: of the entry that was looked at, used or not; None for none.
    """

    model: Classifier
    parity: Parity
    calibration: Calibration
    runtime: str
    tuning: Tuning
    store: Store
    stamp: int | None


def store_of(config: ConsumerConfig, device: str) -> Store:
    """Return where findings for this model on this machine are kept."""
    return Store(Path(config.settings.data_dir) / "tuned", config.model_name, fingerprint(config, device))


class NetworkLoader:
    """Loads the network of one consumer.

    Args:
        build: makes a classifier that is not loaded yet.
        device: ``cpu`` or ``cuda``.
        close: closes a model that is let go.
    """

    def __init__(
        self, build: Callable[[], Classifier], config: ConsumerConfig, device: str, close: Callable[[Model], None]
    ) -> None:
        self._build, self._config, self._device, self._close = build, config, device, close
        self._store = store_of(config, device)
        self._asked = config.settings.runtime or config.model.runtime

    def load(self) -> LoadedNetwork:
        """Load what was found for this machine. Where nothing was, load it plainly.

        A precision that torch does not have on this device is searched for first, whatever ``HEADRACE_TUNE`` says.

        Raises:
            ValueError: the network cannot be loaded as it was asked for.
        """
        stamp, entry = self._store.stamp(), self._store.find()
        if entry is None and (self._config.settings.tune == "first" or not self._torch_has(self._config.precision)):
            tune_now(self._config.model_name, self._config.precision, self._config.settings)
            stamp, entry = self._store.stamp(), self._store.find()
        if entry is not None and self._is_as_asked(entry):
            try:
                return self._tuned(entry)
            except Exception as error:
                log.warning("What was found for this machine cannot be used; torch serves. %s", error)
        return self._plain(stamp, entry is not None)

    def _torch_has(self, precision: str) -> bool:
        if precision in (AUTO, FP32):
            return True
        from .models.torch_runner import PRECISIONS

        return precision in PRECISIONS[self._device]

    def _is_as_asked(self, entry: Entry) -> bool:
        if self._config.precision in (AUTO, entry.finding.precision):
            return True
        if not self._torch_has(self._config.precision):
            raise ValueError(f"precision {self._config.precision} is refused: {entry.finding.refusal}")
        return False  # torch says by itself what is wrong with it

    def _tuned(self, entry: Entry) -> LoadedNetwork:
        from .runtimes.registry import runtime

        finding, begun_s = entry.finding, monotonic()
        used = runtime(finding.runtime)
        if used.needs_network:
            _prepare_torch(self._config, self._device)
        model = self._build()
        job = Job(
            self._device,
            finding.precision,
            self._config.max_batch,
            threads_of(self._config.settings, self._device),
            entry.spec.preprocessing.crop,
            entry.folder,
            model.network() if used.needs_network else None,
        )
        model.open(entry.spec, used.open(job))
        try:
            calibration = warm(model, self._config, finding)
        except BaseException:
            self._close(model)
            raise
        log.info(
            "%s in %s, as it was tuned on this machine; opened in %.1f s. %s",
            finding.runtime,
            finding.precision,
            monotonic() - begun_s,
            finding.refusal or finding.tuning.batching,
        )
        return LoadedNetwork(
            model, finding.parity, calibration, finding.runtime, finding.tuning, self._store, entry.stamp
        )

    def _plain(self, stamp: int | None, is_final: bool) -> LoadedNetwork:
        """Load it in torch; unless that is final, only as much is measured as the first requests need."""
        config, device = self._config, self._device
        _prepare_torch(config, device)
        wanted = FP32 if config.precision == AUTO else config.precision
        model, parity = prepare(self._build, device, wanted, config.max_batch, close=self._close)
        try:
            if is_final or config.settings.tune == "off":
                folder = Path(config.settings.data_dir) / "notes"
                notes = Notes(folder, config.model_name, fingerprint(config, device))
                # On a CPU that others use too, long runs are always interrupted and short ones are not, which makes
                # small batches look better than they are. The time of this thread leaves that out.
                timer = thread_time if device == "cpu" else monotonic
                calibration = calibrate(model, config, notes, parity.precision, timer)
            else:
                calibration = calibrate_briefly(model, config)
        except BaseException:
            self._close(model)
            raise
        assert isinstance(model, Classifier)
        if config.precision == AUTO:
            parity = replace(parity, reason="nothing else has been tried on this machine yet.")
        return LoadedNetwork(model, parity, calibration, TORCH, self._tuning_of_plain(is_final), self._store, stamp)

    def _tuning_of_plain(self, is_final: bool) -> Tuning:
        from .runtimes.registry import runtime

        missing = "" if self._asked == AUTO else runtime(self._asked).missing(self._device)
        if missing:
            return Tuning("refused", f"{missing} torch serves.")
        if is_final:
            return Tuning("refused", "What was found for this machine cannot be used; torch serves.")
        if self._config.settings.tune == "off":
            todo = f"`python -m headrace tune {self._config.model_name}` looks for the fastest runtime"
            return Tuning("plain", f"HEADRACE_TUNE is off; {todo}.")
        return Tuning("searching", "The fastest runtime is being looked for; torch serves meanwhile.")


def _prepare_torch(config: ConsumerConfig, device: str) -> None:
    from .allocator import prepare_for_torch

    prepare_for_torch()
    import torch

    torch.set_num_threads(threads_of(config.settings, device))
